"""The unified paradigm (DeepSeekMath, section 5.2.1): a method is a data source, a reward and a gradient coefficient.

    grad J = E[ 1/|o| sum_t GC(q, o, t) grad log pi(o_t | q, o_<t) ]                                   (eq. 5)

method.py is Table 10 as code; every other file holds one of its columns, or what the loop needs.
"""
