"""Look the locked packages up among known vulnerabilities; fails where the advisories can't be reached, too."""

import json
import subprocess
import sys

COMMAND = [
    sys.executable,
    "-m",
    "pip_audit",
    "--disable-pip",
    "--require-hashes",
    "--format=json",
    "--progress-spinner=off",
]

LOCKS = ["requirements.lock", "dev/requirements-mysql.lock"]  # what the package and its extras require

failed = False
for lock in LOCKS:
    ended = subprocess.run([*COMMAND, "--requirement", lock], capture_output=True, text=True, check=False)
    packages = json.loads(ended.stdout)["dependencies"] if ended.stdout else []
    audited = [package for package in packages if "vulns" in package]
    faults = [f"{one['name']} {one['version']}: {fault['id']}" for one in audited for fault in one["vulns"]]
    print(f"{lock}: {len(audited)} of {len(packages)} packages audited", *faults, sep="\n  ")
    if not audited:
        print("  The advisories can't be reached.", "" if packages else ended.stderr.strip())
    failed |= bool(faults) or not audited
sys.exit(failed)
