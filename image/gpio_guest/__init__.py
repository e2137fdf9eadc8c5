"""A machine with real GPIO lines: QEMU's arm64 `virt` board, whose PL061 pins the bench drives.

`build` makes kernel and initial file system from Debian's packages, `machine` runs them and moves
the lines, `init` is what runs inside.
"""
