/* The nine functions that NVIDIA's Python bindings look for in TensorRT's libraries. Nothing calls them: with these the
 * bindings can be imported and looked at where there is no TensorRT. */
#define MISSING(name) void *name(void) { return 0; }
MISSING(createInferBuilder_INTERNAL)
MISSING(createInferRefitter_INTERNAL)
MISSING(createInferRuntime_INTERNAL)
MISSING(createNvOnnxParserRefitter_INTERNAL)
MISSING(createNvOnnxParser_INTERNAL)
MISSING(getBuilderPluginRegistry)
MISSING(getPluginRegistry)
MISSING(getNvOnnxParserVersion)
MISSING(initLibNvInferPlugins)
