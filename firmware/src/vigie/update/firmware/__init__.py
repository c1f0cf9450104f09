"""`vigie update run`: new firmware by order of the department, tried, judged by itself, kept or left again.

record.py   what is on disk between two steps          core.py     the table: state and event in, state and action out
resume.py   what a start of box or service means       week.py     hours in which the box may restart
source.py   the signed descriptor                      rauc.py     RAUC over D-Bus
health.py   what a good system does                    machine.py  files and figures of this box
service.py  the loop                                   texts.py    sentences for people
"""
