// cuDNN's numbers for what the stand-in knows, from cudnn_graph_v9.h (which needs a gigabyte of library beside it), and
// the attributes of each descriptor: their types, how many values, and whether it can do without.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace backend {

enum Status {
    SUCCESS = 0,
    NOT_INITIALIZED = 1001,
    BAD_PARAM = 2000,
    NOT_SUPPORTED = 3000,
    NOT_SUPPORTED_GRAPH_PATTERN = 3001,
    NOT_SUPPORTED_LAYOUT = 3004,
    EXECUTION_FAILED = 5000,
};

enum Type {
    HANDLE = 0,
    DATA_TYPE = 1,
    BOOLEAN = 2,
    INT64 = 3,
    FLOAT = 4,
    DOUBLE = 5,
    VOID_PTR = 6,
    CONVOLUTION_MODE = 7,
    HEUR_MODE = 8,
    NUMERICAL_NOTE = 11,
    POINTWISE_MODE = 14,
    DESCRIPTOR = 15,
    BEHAVIOR_NOTE = 19,
};

enum Kind {
    POINTWISE = 0,
    CONVOLUTION = 1,
    ENGINE = 2,
    ENGINECFG = 3,
    ENGINEHEUR = 4,
    PLAN = 5,
    FORWARD = 10,
    BACKWARD_FILTER = 11,
    BACKWARD_DATA = 12,
    OPERATION_POINTWISE = 13,
    GRAPH = 15,
    VARIANT_PACK = 16,
    TENSOR = 17,
};

enum DataType { DATA_FLOAT = 0, DATA_BFLOAT16 = 9 };
enum ConvolutionMode { CROSS_CORRELATION = 1 };
enum PointwiseMode { ADD = 0, RELU_FWD = 100 };
enum HeurMode { HEUR_FALLBACK = 2, HEUR_A = 3 };
enum NumericalNote {
    NOTE_TENSOR_CORE = 0,
    NOTE_DOWN_CONVERT_INPUTS = 1,
    NOTE_REDUCED_PRECISION_REDUCTION = 2,
    NOTE_FFT = 3,
    NOTE_NONDETERMINISTIC = 4,
};

enum Name {
    POINTWISE_MODE_OF = 0,
    POINTWISE_MATH_PREC = 1,
    CONVOLUTION_COMP_TYPE = 100,
    CONVOLUTION_CONV_MODE = 101,
    CONVOLUTION_DILATIONS = 102,
    CONVOLUTION_FILTER_STRIDES = 103,
    CONVOLUTION_POST_PADDINGS = 104,
    CONVOLUTION_PRE_PADDINGS = 105,
    CONVOLUTION_SPATIAL_DIMS = 106,
    ENGINEHEUR_MODE = 200,
    ENGINEHEUR_OPERATION_GRAPH = 201,
    ENGINEHEUR_RESULTS = 202,
    ENGINECFG_ENGINE = 300,
    PLAN_HANDLE = 400,
    PLAN_ENGINE_CONFIG = 401,
    PLAN_WORKSPACE_SIZE = 402,
    // Of the three convolutions: alpha, beta, convolution and three tensors from here on.
    FORWARD_ALPHA = 700,
    FORWARD_W = 703,
    FORWARD_X = 704,
    FORWARD_Y = 705,
    BACKWARD_DATA_ALPHA = 706,
    BACKWARD_DATA_W = 709,
    BACKWARD_DATA_DX = 710,
    BACKWARD_DATA_DY = 711,
    BACKWARD_FILTER_ALPHA = 712,
    BACKWARD_FILTER_DW = 715,
    BACKWARD_FILTER_X = 716,
    BACKWARD_FILTER_DY = 717,
    OPERATION_POINTWISE_PW = 750,
    OPERATION_POINTWISE_X = 751,
    OPERATION_POINTWISE_B = 752,
    OPERATION_POINTWISE_Y = 753,
    GRAPH_HANDLE = 800,
    GRAPH_OPS = 801,
    TENSOR_BYTE_ALIGNMENT = 900,
    TENSOR_DATA_TYPE = 901,
    TENSOR_DIMENSIONS = 902,
    TENSOR_STRIDES = 903,
    TENSOR_UNIQUE_ID = 906,
    TENSOR_IS_VIRTUAL = 907,
    PACK_UNIQUE_IDS = 1000,
    PACK_DATA_POINTERS = 1001,
    PACK_WORKSPACE = 1003,
    ENGINE_GLOBAL_INDEX = 1301,
    ENGINE_NUMERICAL_NOTE = 1303,
    ENGINE_BEHAVIOR_NOTE = 1305,
};

inline int64_t width(Type type) {
    switch (type) {
        case BOOLEAN: return 1;
        case HANDLE:
        case INT64:
        case DOUBLE:
        case VOID_PTR:
        case DESCRIPTOR: return 8;
        default: return 4;
    }
}

struct Rule {
    Type type;
    int64_t most;
    bool required;
    // Of a descriptor that it refers to; several are possible for the operations of a graph.
    std::vector<Kind> kinds = {};
};

using Rules = std::map<int, Rule>;

inline Rules convolution_rules(int alpha) {
    Rules rules = {{alpha, {FLOAT, 1, true}}, {alpha + 1, {FLOAT, 1, true}},
                   {alpha + 2, {DESCRIPTOR, 1, true, {CONVOLUTION}}}};
    for (int tensor = alpha + 3; tensor < alpha + 6; tensor++) rules[tensor] = {DESCRIPTOR, 1, true, {TENSOR}};
    return rules;
}

// What can be set.
inline const std::map<int, Rules>& settable() {
    static const std::map<int, Rules> all = {
        {POINTWISE, {{POINTWISE_MODE_OF, {POINTWISE_MODE, 1, true}}, {POINTWISE_MATH_PREC, {DATA_TYPE, 1, true}}}},
        {CONVOLUTION,
         {{CONVOLUTION_COMP_TYPE, {DATA_TYPE, 1, true}},
          {CONVOLUTION_CONV_MODE, {CONVOLUTION_MODE, 1, true}},
          {CONVOLUTION_DILATIONS, {INT64, 8, true}},
          {CONVOLUTION_FILTER_STRIDES, {INT64, 8, true}},
          {CONVOLUTION_POST_PADDINGS, {INT64, 8, true}},
          {CONVOLUTION_PRE_PADDINGS, {INT64, 8, true}},
          {CONVOLUTION_SPATIAL_DIMS, {INT64, 1, true}}}},
        {ENGINE, {}},
        {ENGINECFG, {}},
        {ENGINEHEUR,
         {{ENGINEHEUR_MODE, {HEUR_MODE, 1, true}}, {ENGINEHEUR_OPERATION_GRAPH, {DESCRIPTOR, 1, true, {GRAPH}}}}},
        {PLAN, {{PLAN_HANDLE, {HANDLE, 1, true}}, {PLAN_ENGINE_CONFIG, {DESCRIPTOR, 1, true, {ENGINECFG}}}}},
        {FORWARD, convolution_rules(FORWARD_ALPHA)},
        {BACKWARD_DATA, convolution_rules(BACKWARD_DATA_ALPHA)},
        {BACKWARD_FILTER, convolution_rules(BACKWARD_FILTER_ALPHA)},
        {OPERATION_POINTWISE,
         {{OPERATION_POINTWISE_PW, {DESCRIPTOR, 1, true, {POINTWISE}}},
          {OPERATION_POINTWISE_X, {DESCRIPTOR, 1, true, {TENSOR}}},
          {OPERATION_POINTWISE_B, {DESCRIPTOR, 1, false, {TENSOR}}},
          {OPERATION_POINTWISE_Y, {DESCRIPTOR, 1, true, {TENSOR}}}}},
        {GRAPH,
         {{GRAPH_HANDLE, {HANDLE, 1, true}},
          {GRAPH_OPS, {DESCRIPTOR, 64, true, {FORWARD, BACKWARD_DATA, BACKWARD_FILTER, OPERATION_POINTWISE}}}}},
        {VARIANT_PACK,
         {{PACK_UNIQUE_IDS, {INT64, 64, true}},
          {PACK_DATA_POINTERS, {VOID_PTR, 64, true}},
          {PACK_WORKSPACE, {VOID_PTR, 1, false}}}},
        {TENSOR,
         {{TENSOR_BYTE_ALIGNMENT, {INT64, 1, true}},
          {TENSOR_DATA_TYPE, {DATA_TYPE, 1, true}},
          {TENSOR_DIMENSIONS, {INT64, 8, true}},
          {TENSOR_STRIDES, {INT64, 8, true}},
          {TENSOR_UNIQUE_ID, {INT64, 1, true}},
          {TENSOR_IS_VIRTUAL, {BOOLEAN, 1, false}}}},
    };
    return all;
}

}  // namespace backend
