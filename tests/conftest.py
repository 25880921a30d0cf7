"""Makes `models` importable from every test, and keeps torch to one thread: the suite runs on several processes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
