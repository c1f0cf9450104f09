"""The contract: numbers, topics, messages, schemas, signatures. The only part of `vigie` that the department imports.

It imports nothing else of `vigie`; of libraries, only `cryptography` (signatures) and `jsonschema` (by
`schema.validate`, when called). Everything here is a function of its input: no file, no socket, no clock.

    errors      one tree under ContractError
    codes       numbers shared with the data path
    words       closed lists of words on the wire: kinds, rules, results, refusals
    identity    box ids, serials, claim ids, EKU OIDs
    topics      MQTT topics
    upward      what a box says (state, alert, metric, ack, request, diagnostic) and envelope, the frame around it
    downward    what a box is told (desired, command, received, announcement)
    dsse        Ed25519 signatures around desired states and commands · trust: the keys that may make them
    limits      numbers enforced in the box whoever signed
    enrolment   bodies of the authority's API, attestation · signed: ES256 statements of the authority
    base        the base's descriptor, target names, ring of a box
    firmware    versions, a release's descriptor, the order to install it, what a box tells of it
    schema      JSON Schemas (`schemas/*.json`)
"""
