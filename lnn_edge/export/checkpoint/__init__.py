"""Checkpoints: where trained weights come from.

save_load   `save_checkpoint` and `load_checkpoint`
file        files in the safetensors format, ours and others'
torch_save  files that torch.save wrote
state_dict  a state_dict fitted to a module
source      `FILE.py:FACTORY` and weights, as the command line takes them
"""

from ...former_names import serve_former_names

serve_former_names(__name__)
