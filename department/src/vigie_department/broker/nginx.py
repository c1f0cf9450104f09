"""nginx's configuration: one address and port for every name of the department.

    443 --stream, reads the name only--> mqtt.D --> (takes the PROXY line off) --> mosquitto, end-to-end TLS
                                    \\--> the rest --> http on the loopback: enrol.D, maj.D, console.D

The stream half adds a PROXY line so that the http half knows the client's address. Mosquitto 2.0 does not know that
protocol, so the way of the few boxes that cannot use port 8883 has one hop more.
"""

from __future__ import annotations

from vigie_department.broker.plan import WebPlan, bracketed

SECURITY = (
    ("Strict-Transport-Security", "max-age=63072000"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'; "
        "object-src 'none'",
    ),
)


def configuration(plan: WebPlan) -> str:
    """nginx.conf (nginx 1.22 or later, with its stream module)."""
    return "\n".join([_main(plan), _stream(plan), _http(plan)])


def _main(plan: WebPlan) -> str:
    module = f"load_module {plan.stream_module};\n" if plan.stream_module else ""
    return f"""\
# Written by `vigie-department broker configure`. Changes made by hand are lost at the next one: put them into
# {plan.local}/.
{module}daemon off;
pid {plan.work}/nginx.pid;
error_log stderr warn;
worker_processes {plan.workers or "auto"};
events {{
    worker_connections 16384;
}}
"""


def _listen(plan: WebPlan) -> str:
    addresses = [f"{bracketed(address)}:" for address in plan.listen] or ["", "[::]:"]
    return "\n".join(f"        listen {address}{plan.https_port} backlog=4096;" for address in addresses)


def _stream(plan: WebPlan) -> str:
    return f"""\
stream {{
    log_format way '$time_iso8601 $remote_addr $ssl_preread_server_name $status $bytes_sent $session_time';
    map $ssl_preread_server_name $vigie_way {{
        {plan.mqtt_host} unix:{plan.unwrap};
        default 127.0.0.1:{plan.inner_port};
    }}
    map $ssl_preread_server_name $vigie_logged {{
        {plan.mqtt_host} 1;
        default 0;
    }}
    server {{
{_listen(plan)}
        ssl_preread on;
        preread_timeout 10s;
        proxy_connect_timeout 5s;
        # The broker's own limit of silence is the client's keepalive (at most 10 minutes) and a half.
        proxy_timeout 16m;
        tcp_nodelay on;
        proxy_protocol on;
        proxy_pass $vigie_way;
        access_log {plan.access_log} way if=$vigie_logged;
    }}
    server {{
        listen unix:{plan.unwrap} proxy_protocol;
        proxy_connect_timeout 5s;
        proxy_timeout 16m;
        proxy_pass 127.0.0.1:{plan.mqtt_port};
    }}
}}
"""


def _http(plan: WebPlan) -> str:
    parts = [_common(plan), _nobody(plan), _enrol(plan), _updates(plan), _console(plan), "}\n"]
    return "\n".join(parts)


def _common(plan: WebPlan) -> str:
    bodies = "\n".join(
        f"    {name}_temp_path {plan.work}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
http {{
    # No query, no agent, no referrer. What a commune's box fetches is logged without its address.
    log_format named escape=json '{{"at":"$time_iso8601","from":"$remote_addr","host":"$server_name",'
        '"method":"$request_method","path":"$uri","status":$status,"bytes":$bytes_sent,"s":$request_time}}';
    log_format unnamed escape=json '{{"at":"$time_iso8601","host":"$server_name","method":"$request_method",'
        '"path":"$uri","status":$status,"bytes":$bytes_sent,"s":$request_time}}';
    access_log off;
{bodies}

    types {{
        application/json json;
        application/octet-stream vgb vgd raucb bin;
        text/css css;
        text/html html;
        text/javascript js mjs;
        image/svg+xml svg;
        image/png png;
        image/x-icon ico;
        font/woff2 woff2;
    }}
    default_type application/octet-stream;
    charset utf-8;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    gzip off;
    keepalive_timeout 65s;
    keepalive_requests 1000;
    client_header_timeout 10s;
    client_body_timeout 15s;
    send_timeout 60s;
    reset_timedout_connection on;
    large_client_header_buffers 4 16k;

    real_ip_header proxy_protocol;
    set_real_ip_from 127.0.0.1;

    ssl_certificate {plan.certificate};
    ssl_certificate_key {plan.key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384;
    ssl_prefer_server_ciphers off;
    # Resumption from memory shared by the workers: a thousand boxes that come back at once skip the signature, and no
    # ticket key lives for months.
    ssl_session_cache shared:vigie:20m;
    ssl_session_timeout 1h;
    ssl_session_tickets off;
    ssl_early_data off;
    ssl_buffer_size 4k;

    # One IPv6 subscriber holds a /64. The address comes compressed: zeros in its first half end the part that counts.
    map $remote_addr $vigie_peer {{
        "~^(?<net4>[0-9.]+)$" $net4;
        "~^(?<net6>[0-9a-f]+:[0-9a-f]+:[0-9a-f]+:[0-9a-f]+):" $net6;
        "~^(?<zeros6>[0-9a-f:]*?)::" "${{zeros6}}::";
        default $remote_addr;
    }}
    limit_req_zone $vigie_peer zone=enrol_each:4m rate={plan.enrol_each_per_s}r/s;
    limit_req_zone $server_name zone=enrol_all:64k rate={plan.enrol_all_per_s}r/s;
    limit_req_zone $vigie_peer zone=console_each:4m rate=20r/s;
    limit_req_zone $vigie_peer zone=login_each:4m rate=20r/m;
    limit_conn_zone $vigie_peer zone=each:4m;
    limit_req_status 429;
    limit_conn_status 429;

    # Answers that are not the file itself must not be kept by anybody.
    map $status $vigie_forever {{
        "~^(200|206|304)$" "public, max-age=31536000, immutable";
        default "no-store";
    }}

    upstream authority {{
        server unix:{plan.authority} max_fails=0;
        keepalive 16;
    }}
    upstream console {{
        server unix:{plan.console} max_fails=0;
        keepalive 16;
    }}
"""


def _server(plan: WebPlan, name: str) -> str:
    return f"""\
    server {{
        listen 127.0.0.1:{plan.inner_port} ssl proxy_protocol;
        server_name {name};
"""


def _nobody(plan: WebPlan) -> str:
    """Whoever asks for no name of ours learns nothing, not even a certificate."""
    return f"""\
    server {{
        listen 127.0.0.1:{plan.inner_port} ssl proxy_protocol default_server backlog=4096;
        server_name _;
        ssl_reject_handshake on;
    }}
"""


def _enrol(plan: WebPlan) -> str:
    # The three headers replace whatever a client sends under these names: proxy_set_header does not add.
    return f"""\
{_server(plan, plan.enrol_host)}\
        access_log {plan.access_log} named;
        ssl_client_certificate {plan.clients};
        ssl_verify_client optional;
        ssl_verify_depth 3;
        client_max_body_size 64k;
        client_body_buffer_size 64k;
        limit_conn each 256;
        location /v1/ {{
            limit_req zone=enrol_all burst={plan.enrol_all_burst} nodelay;
            limit_req zone=enrol_each burst={plan.enrol_each_burst} nodelay;
            proxy_pass http://authority;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $server_name;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Vigie-Peer $remote_addr;
            proxy_set_header X-Vigie-Client-Verify $ssl_client_verify;
            proxy_set_header X-Vigie-Client-Cert $ssl_client_escaped_cert;
            proxy_connect_timeout 5s;
            proxy_read_timeout 30s;
            proxy_next_upstream off;
        }}
        location / {{
            return 404;
        }}
    }}
"""


def _updates(plan: WebPlan) -> str:
    return f"""\
{_server(plan, plan.updates_host)}\
        access_log {plan.access_log} unnamed;
        client_max_body_size 1k;
        limit_conn each 256;
        # The only name whose content changes: boxes ask for it to learn what is new.
        location = /tuf/metadata/timestamp.json {{
            limit_except GET {{ deny all; }}
            alias {plan.repository}/metadata/timestamp.json;
            add_header Cache-Control no-cache always;
            add_header X-Content-Type-Options nosniff always;
        }}
        # Consistent snapshots: a name with a version or a digest never holds anything else.
        location ~ "^/tuf/metadata/(?<file>[0-9]{{1,15}}\\.[a-z][a-z0-9-]{{0,31}}\\.json)$" {{
            limit_except GET {{ deny all; }}
            alias {plan.repository}/metadata/$file;
            add_header Cache-Control $vigie_forever always;
            add_header X-Content-Type-Options nosniff always;
        }}
        location /tuf/targets/ {{
            limit_except GET {{ deny all; }}
            alias {plan.repository}/targets/;
            disable_symlinks on;
            max_ranges 1;
            add_header Cache-Control $vigie_forever always;
            add_header X-Content-Type-Options nosniff always;
        }}
        # Bundles: boxes fetch the parts that they lack, one range after the other.
        location ~ "^/tuf/firmware/(?<bundle>vigie-[a-z0-9-]{{1,16}}-[0-9.]{{8,12}}\\.raucb)$" {{
            limit_except GET {{ deny all; }}
            alias {plan.repository}/firmware/$bundle;
            disable_symlinks on;
            max_ranges 1;
            add_header Cache-Control $vigie_forever always;
            add_header X-Content-Type-Options nosniff always;
        }}
        location / {{
            return 404;
        }}
    }}
"""


def _console(plan: WebPlan) -> str:
    headers = "\n".join(f'        add_header {name} "{value}" always;' for name, value in SECURITY)
    hidden = "\n".join(f"            proxy_hide_header {name};" for name, _ in SECURITY)
    proxy = f"""\
            proxy_pass http://console;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $server_name;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
            proxy_connect_timeout 5s;
{hidden}"""
    return f"""\
{_server(plan, plan.console_host)}\
        access_log {plan.access_log} named;
        client_max_body_size 20m;
        limit_conn each 64;
{headers}
        include {plan.local}/*.conf;
        location /static/ {{
            alias {plan.static}/;
            gzip on;
            gzip_types text/css text/javascript image/svg+xml;
            expires 1h;
        }}
        location ~ ^/([a-z]+/)?(admin/)?(login|password)/ {{
            limit_req zone=login_each burst=20 nodelay;
{proxy}
            proxy_read_timeout 60s;
        }}
        location /events/ {{
            limit_req zone=console_each burst=20 nodelay;
            limit_conn each 20;
{proxy}
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
        location / {{
            limit_req zone=console_each burst=100 nodelay;
{proxy}
            proxy_read_timeout 60s;
        }}
    }}
"""
