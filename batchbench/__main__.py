"""python -m batchbench"""

from batchbench.cli import main

main()
