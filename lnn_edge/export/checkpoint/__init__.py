"""Checkpoints: what trained weights are read from.

source      what the user named, to a trained module
save_load   our own files
file        any file in the safetensors format
torch_save  what torch.save wrote
state_dict  weights fitted to a module
"""

from ...former_names import serve_former_names

serve_former_names(__name__)
