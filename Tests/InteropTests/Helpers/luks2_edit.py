# SPDX-License-Identifier: Apache-2.0
"""Changes the JSON of both copies of a LUKS2 header: luks2_edit.py FILE CODE, where the code changes `metadata`."""
import sys

from luks_headers import LUKS2

header = LUKS2(sys.argv[1])
exec(sys.argv[2], {"metadata": header.metadata})
header.write()
