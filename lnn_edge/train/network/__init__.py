"""The network that the estimator trains.

build    from parameters to a network
module   scaling, liquid layers, head
threads  how many of them torch computes on
"""

from ...former_names import serve_former_names

serve_former_names(__name__)
