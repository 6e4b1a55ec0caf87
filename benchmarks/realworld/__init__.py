"""Order-dependent tests of published projects: do they heal, and is the polluted state named?"""
