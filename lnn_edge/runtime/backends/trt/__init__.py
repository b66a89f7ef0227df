"""The backends `tensorrt` and `tensorrt-rtx` for NVIDIA GPUs: CUDA, TensorRT, the engine cache and the stepper.

Checked against the API of TensorRT 8.6, 10.3, 10.13, 10.16 and 11.4, of cuda-bindings and of libcudart, on a simulated
GPU (tests/support/fake_tensorrt). NVIDIA's own parser and builder, of TensorRT for RTX 1.7, build every graph of the
tests on the CPU. All but the run of an engine has run on an NVIDIA H200 (benchmarks/gpu.py), nothing on a Jetson yet;
examples/jetson/README.md says what to check there first.

    backend          what the table names: readiness, engine from the cache or new, streams
    options          what a user may choose
    checks           what `lnn-edge doctor` says
    stepper          one stream: buffers, feedback, capture, launch and wait
    device_figures   where the time of a step goes
    build_watch      a build in a thread, with progress and an end on Ctrl-C
    engines          the only code that touches TensorRT
    dialects         the two kinds of it
    plan_file        an engine in a file, built for GPUs elsewhere
    device           is there a GPU, what is it, memory
    driver_trial     whether the driver, or a library, crashes who calls it
    cuda_stream      copies, graphs, waits
    cudart           the only code that touches CUDA
"""
