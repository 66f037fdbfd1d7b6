"""The doctor of data sets: looks at every file, then says all that is wrong, with the override that mends it.

`doctor.examine_folder` and `doctor.examine_source` give a Report; `showing` prints it. Nothing here imports torch.
"""
