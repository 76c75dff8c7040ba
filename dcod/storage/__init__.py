"""Files and buckets: atomic, checksummed, leased, gone through again after a kill. Alone imports boto3.

``files`` is what all use; ``outputs`` decides what may be replaced and ``marks`` what is dcod's; ``temporary`` and
``workers`` see that nothing outlives its process. ``s3`` is one call to a bucket, ``downloads`` a file from it with its
tries, ``dripping`` the least rate, ``parts`` what a run goes on from, ``entries`` what lies at a place and its removal,
``retries`` when anything is tried again.
A new kind of store goes behind ``files``.
"""

from dcod.storage.files import cache_folder, digest_file, digest_folder, is_s3
from dcod.storage.leases import lease
from dcod.storage.marks import MANIFEST, MARK
from dcod.storage.outputs import output_folder, read_json, remove_folder, write_json, write_text
from dcod.storage.s3 import dated_objects, fetch, list_objects, probe, remove, upload
from dcod.storage.temporary import scratch

__all__ = [
    "MANIFEST",
    "MARK",
    "cache_folder",
    "dated_objects",
    "digest_file",
    "digest_folder",
    "fetch",
    "is_s3",
    "lease",
    "list_objects",
    "output_folder",
    "probe",
    "read_json",
    "remove",
    "remove_folder",
    "scratch",
    "upload",
    "write_json",
    "write_text",
]
