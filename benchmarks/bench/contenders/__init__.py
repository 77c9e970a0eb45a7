"""Scripts that the contenders' Python runs, one a contender: a job in, a product out.

Nothing of the product is imported here but `srgan`, where a line has all contenders run the same network.
"""
