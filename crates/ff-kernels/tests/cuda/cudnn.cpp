// libcudnn.so.9 for a machine without a GPU: as much of its backend API as convolutions and what is fused to them need,
// computed on the processor in the order of the handle's stream, captures included.
//
// It checks what cuDNN checks, and some of what cuDNN takes on trust: types and numbers of attributes, what a descriptor
// cannot do without, shapes, that what is referred to still lives, that addresses are aligned and hold the tensors.

#include "arithmetic.h"

#include <cstdio>
#include <cuda.h>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "fake.h"

using namespace backend;

namespace {

struct Descriptor;
using DescriptorPtr = std::shared_ptr<Descriptor>;

struct Attribute {
    std::vector<char> bytes;
    int64_t count = 0;
    std::vector<DescriptorPtr> refers;
};

// An engine of this library.
struct Engine {
    int64_t number, workspace;
    std::vector<int> notes;
    bool refused = false;  // when a plan is made of it
};

struct Descriptor {
    Kind kind;
    bool finalised = false, destroyed = false;
    std::map<int, Attribute> attributes;
    // Of a graph, and of all that is made of it.
    std::vector<Operation> operations;
    DescriptorPtr graph;
    // Of a heuristic, what it found; of a configuration, an engine, a plan: its own.
    std::vector<Engine> engines;

    template <typename T>
    std::vector<T> values(int name) const {
        auto found = attributes.find(name);
        if (found == attributes.end()) return {};
        std::vector<T> all(found->second.count);
        std::memcpy(all.data(), found->second.bytes.data(), found->second.bytes.size());
        return all;
    }
    template <typename T>
    T value(int name, T otherwise = {}) const {
        auto all = values<T>(name);
        return all.empty() ? otherwise : all[0];
    }
    const DescriptorPtr& reference(int name) const { return attributes.at(name).refers.at(0); }
    bool has(int name) const { return attributes.count(name) != 0; }
};

struct Handle {
    CUstream stream = nullptr;
};

std::recursive_mutex all;
std::map<void*, DescriptorPtr> descriptors;
std::set<Handle*> handles;
thread_local std::string last_error;

// What is wrong with a caller's request.
struct Refusal {
    Status status;
    std::string says;
};

[[noreturn]] void bad(const std::string& says) { throw Refusal{BAD_PARAM, says}; }
void expect(bool holds, const std::string& says) {
    if (!holds) bad(says);
}

template <typename F>
Status guarded(F work) {
    std::lock_guard<std::recursive_mutex> lock(all);
    try {
        work();
        return SUCCESS;
    } catch (const Refusal& refusal) {
        last_error = refusal.says;
        // That an engine is not for this is no mistake of the caller's.
        if (refusal.status < NOT_SUPPORTED) fake::report("cuDNN: " + refusal.says);
        return refusal.status;
    }
}

std::string name_of(int name) { return "attribute " + std::to_string(name); }

const DescriptorPtr& find(void* handle) {
    auto found = descriptors.find(handle);
    expect(found != descriptors.end(), "no such descriptor, or it was destroyed");
    return found->second;
}

void check_handle(void* handle) {
    expect(handles.count(static_cast<Handle*>(handle)) != 0, "no such handle");
}

// That it and all it refers to are still there.
void check_alive(const Descriptor& descriptor) {
    expect(!descriptor.destroyed, "a descriptor of kind " + std::to_string(descriptor.kind) +
                                      " was destroyed while another still refers to it");
    if (descriptor.graph) check_alive(*descriptor.graph);
    for (auto& [name, attribute] : descriptor.attributes)
        for (const DescriptorPtr& reference : attribute.refers) check_alive(*reference);
}

Tensor tensor(const Descriptor& of) {
    auto dims = of.values<int64_t>(TENSOR_DIMENSIONS), strides = of.values<int64_t>(TENSOR_STRIDES);
    auto [n, c, h, w] = std::tie(dims[0], dims[1], dims[2], dims[3]);
    bool nhwc = strides == std::vector<int64_t>{h * w * c, 1, w * c, c};
    if (!nhwc) throw Refusal{NOT_SUPPORTED_LAYOUT, "expected (N,C,H,W) with the strides of NHWC"};
    return Tensor{of.value<int64_t>(TENSOR_UNIQUE_ID), of.value<int64_t>(TENSOR_BYTE_ALIGNMENT),
                  of.value<int>(TENSOR_DATA_TYPE),     of.value<char>(TENSOR_IS_VIRTUAL) != 0,
                  n, c, h, w};
}

// ---- what each kind must be when it is finalised

void finalise_tensor(const Descriptor& of) {
    auto dims = of.values<int64_t>(TENSOR_DIMENSIONS), strides = of.values<int64_t>(TENSOR_STRIDES);
    expect(dims.size() == 4 && strides.size() == 4, "a tensor: expected 4 dimensions and 4 strides");
    for (int i = 0; i < 4; i++) expect(dims[i] > 0 && strides[i] > 0, "a tensor: dimensions and strides are positive");
    int type = of.value<int>(TENSOR_DATA_TYPE);
    expect(type == DATA_FLOAT || type == DATA_BFLOAT16, "a tensor: only f32 and bf16 are emulated");
    int64_t alignment = of.value<int64_t>(TENSOR_BYTE_ALIGNMENT);
    expect(alignment > 0 && alignment <= 16 && (alignment & (alignment - 1)) == 0,
           "a tensor: expected an alignment of 1, 2, 4, 8 or 16");
}

void finalise_convolution(const Descriptor& of) {
    expect(of.value<int64_t>(CONVOLUTION_SPATIAL_DIMS) == 2, "a convolution: only two dimensions are emulated");
    for (int name : {CONVOLUTION_DILATIONS, CONVOLUTION_FILTER_STRIDES, CONVOLUTION_PRE_PADDINGS,
                     CONVOLUTION_POST_PADDINGS})
        expect(of.values<int64_t>(name).size() == 2, "a convolution: expected two values of " + name_of(name));
    expect(of.value<int>(CONVOLUTION_COMP_TYPE) == DATA_FLOAT, "a convolution: sums are f32");
    expect(of.value<int>(CONVOLUTION_CONV_MODE) == CROSS_CORRELATION, "a convolution: expected cross-correlation");
}

Operation convolution(const Descriptor& of, int alpha, int x, int w, int y) {
    expect(of.value<float>(alpha) == 1.0f && of.value<float>(alpha + 1) == 0.0f, "expected alpha 1 and beta 0");
    const Descriptor& shape = *of.reference(alpha + 2);
    auto pairs = [&](int name) {
        auto both = shape.values<int64_t>(name);
        expect(both[0] == both[1], "a convolution: expected the same in both directions");
        return both[0];
    };
    Operation made{of.kind, tensor(*of.reference(x)), tensor(*of.reference(w)), tensor(*of.reference(y)),
                   pairs(CONVOLUTION_FILTER_STRIDES), pairs(CONVOLUTION_PRE_PADDINGS)};
    expect(pairs(CONVOLUTION_POST_PADDINGS) == made.padding && pairs(CONVOLUTION_DILATIONS) == 1,
           "a convolution: expected equal paddings and no dilation");
    auto out = [&](int64_t in, int64_t taps) { return (in + 2 * made.padding - taps) / made.stride + 1; };
    expect(made.w.c == made.x.c && made.w.n == made.y.c && made.x.n == made.y.n &&
               made.y.h == out(made.x.h, made.w.h) && made.y.w == out(made.x.w, made.w.w),
           "a convolution: shapes of x, w and y do not fit");
    return made;
}

Operation pointwise(const Descriptor& of) {
    Operation made{OPERATION_POINTWISE, tensor(*of.reference(OPERATION_POINTWISE_X)), {},
                   tensor(*of.reference(OPERATION_POINTWISE_Y))};
    const Descriptor& what = *of.reference(OPERATION_POINTWISE_PW);
    made.mode = what.value<int>(POINTWISE_MODE_OF);
    expect(what.value<int>(POINTWISE_MATH_PREC) == DATA_FLOAT, "a pointwise operation: expected f32 arithmetic");
    expect(made.mode == ADD || made.mode == RELU_FWD, "a pointwise operation: only ADD and RELU_FWD are emulated");
    expect(of.has(OPERATION_POINTWISE_B) == made.has_second(), "a pointwise operation: ADD has a B, RELU_FWD has none");
    auto shape = [](const Tensor& t) { return std::vector<int64_t>{t.n, t.c, t.h, t.w}; };
    expect(shape(made.x) == shape(made.y), "a pointwise operation: x and y differ in shape");
    if (made.has_second()) {
        made.w = tensor(*of.reference(OPERATION_POINTWISE_B));
        bool bias = shape(made.w) == std::vector<int64_t>{1, made.x.c, 1, 1};
        expect(bias || shape(made.w) == shape(made.x), "a pointwise operation: b is neither like x nor (1,C,1,1)");
    }
    return made;
}

Operation operation(const Descriptor& of) {
    switch (of.kind) {
        case FORWARD: return convolution(of, FORWARD_ALPHA, FORWARD_X, FORWARD_W, FORWARD_Y);
        case BACKWARD_DATA:
            return convolution(of, BACKWARD_DATA_ALPHA, BACKWARD_DATA_DX, BACKWARD_DATA_W, BACKWARD_DATA_DY);
        case BACKWARD_FILTER:
            return convolution(of, BACKWARD_FILTER_ALPHA, BACKWARD_FILTER_X, BACKWARD_FILTER_DW, BACKWARD_FILTER_DY);
        default: return pointwise(of);
    }
}

void finalise_graph(Descriptor& of) {
    check_handle(of.value<void*>(GRAPH_HANDLE));
    std::set<int64_t> written;
    for (const DescriptorPtr& part : of.attributes.at(GRAPH_OPS).refers) {
        of.operations.push_back(operation(*part));
        const Operation& made = of.operations.back();
        for (const Tensor& input : made.inputs())
            expect(!input.is_virtual || written.count(input.uid), "a graph: a virtual tensor is read before it is made");
        expect(written.insert(made.output().uid).second, "a graph: two operations write one tensor");
    }
    expect(!of.operations.back().output().is_virtual, "a graph: its last output is virtual");
}

// What this library offers for a graph; the first that is good is not the first in the list.
std::vector<Engine> offers(const std::vector<Operation>& operations, int mode) {
    bool fused = operations.size() > 1;
    if (operations[0].is_pointwise() || (fused && operations[0].kind != FORWARD))
        throw Refusal{NOT_SUPPORTED_GRAPH_PATTERN, "expected a convolution first, and only a forward one before others"};
    int type = operations[0].x.type;
    for (size_t i = 0; i < operations.size(); i++) {
        if (i > 0 && !operations[i].is_pointwise())
            throw Refusal{NOT_SUPPORTED_GRAPH_PATTERN, "expected one convolution"};
        // As cuDNN 9.19: no engine for a bias of another type.
        std::vector<Tensor> tensors = operations[i].inputs();
        tensors.push_back(operations[i].output());
        for (const Tensor& each : tensors)
            if (!each.is_virtual && each.type != type) return {};
    }
    if (fused && fake::setting("fused", 1) == 0) return {};
    if (mode == HEUR_FALLBACK) return {{0, 0, {}}};
    expect(mode == HEUR_A, "only heuristics A and FALLBACK are emulated");
    std::vector<int> rounding = {NOTE_TENSOR_CORE};
    if (type == DATA_FLOAT) rounding.push_back(NOTE_DOWN_CONVERT_INPUTS);
    return {
        {13, 0, {}, true},
        {7, int64_t(1) << 30, {NOTE_FFT}},
        {28, 0, {NOTE_TENSOR_CORE, NOTE_REDUCED_PRECISION_REDUCTION}},
        {62, 4096, rounding},
        {4, 0, {NOTE_NONDETERMINISTIC}},
    };
}

void finalise_plan(Descriptor& of) {
    check_handle(of.value<void*>(PLAN_HANDLE));
    const Descriptor& configuration = *of.reference(PLAN_ENGINE_CONFIG);
    check_alive(configuration);
    of.engines = configuration.engines;
    of.graph = configuration.graph;
    expect(of.graph->value<void*>(GRAPH_HANDLE) == of.value<void*>(PLAN_HANDLE),
           "a plan: another handle than its graph's");
    if (of.engines[0].refused) throw Refusal{NOT_SUPPORTED, "engine 13 is never for anything"};
}

void finalise_pack(const Descriptor& of) {
    auto uids = of.values<int64_t>(PACK_UNIQUE_IDS);
    auto pointers = of.values<void*>(PACK_DATA_POINTERS);
    expect(uids.size() == pointers.size(), "a variant pack: expected as many pointers as unique ids");
    expect(std::set<int64_t>(uids.begin(), uids.end()).size() == uids.size(), "a variant pack: a unique id twice");
    for (void* pointer : pointers) expect(pointer != nullptr, "a variant pack: a null pointer");
}

void finalise(Descriptor& of) {
    if (of.finalised) throw Refusal{NOT_INITIALIZED, "finalised twice"};
    for (auto& [name, rule] : settable().at(of.kind))
        expect(!rule.required || of.has(name),
               "a descriptor of kind " + std::to_string(of.kind) + " lacks " + name_of(name));
    for (auto& [name, attribute] : of.attributes)
        for (const DescriptorPtr& reference : attribute.refers) check_alive(*reference);
    switch (of.kind) {
        case TENSOR: finalise_tensor(of); break;
        case CONVOLUTION: finalise_convolution(of); break;
        case POINTWISE: break;
        case FORWARD:
        case BACKWARD_DATA:
        case BACKWARD_FILTER:
        case OPERATION_POINTWISE: operation(of); break;
        case GRAPH: finalise_graph(of); break;
        case ENGINEHEUR:
            of.graph = of.reference(ENGINEHEUR_OPERATION_GRAPH);
            of.engines = offers(of.graph->operations, of.value<int>(ENGINEHEUR_MODE));
            break;
        case PLAN: finalise_plan(of); break;
        case VARIANT_PACK: finalise_pack(of); break;
        default: bad("a descriptor that only cuDNN fills");
    }
    of.finalised = true;
}

// ---- attributes

void set(Descriptor& of, int name, int type, int64_t count, const void* values) {
    if (of.finalised) throw Refusal{NOT_INITIALIZED, name_of(name) + " is set after finalising"};
    const Rules& rules = settable().at(of.kind);
    auto found = rules.find(name);
    expect(found != rules.end(), name_of(name) + " cannot be set on kind " + std::to_string(of.kind));
    const Rule& rule = found->second;
    expect(type == rule.type, name_of(name) + ": type " + std::to_string(type) + ", expected " +
                                  std::to_string(rule.type));
    expect(count > 0 && count <= rule.most && values, name_of(name) + ": a wrong number of values");
    Attribute attribute;
    attribute.count = count;
    auto begin = static_cast<const char*>(values);
    attribute.bytes.assign(begin, begin + count * width(rule.type));
    for (int64_t i = 0; rule.type == DESCRIPTOR && i < count; i++) {
        const DescriptorPtr& reference = find(static_cast<void* const*>(values)[i]);
        expect(std::count(rule.kinds.begin(), rule.kinds.end(), reference->kind) != 0,
               name_of(name) + ": a descriptor of another kind");
        expect(reference->finalised, name_of(name) + ": a descriptor that is not finalised");
        attribute.refers.push_back(reference);
    }
    of.attributes[name] = attribute;
}

template <typename T>
void give(const std::vector<T>& values, Type type, int expected, int64_t room, int64_t* count, void* to) {
    expect(type == expected, "an attribute is read with another type");
    if (count) *count = int64_t(values.size());
    if (to) std::memcpy(to, values.data(), sizeof(T) * size_t(std::min(room, int64_t(values.size()))));
}

// Fills descriptors that the caller has created.
void give_descriptors(const Descriptor& of, Kind kind, const std::vector<Engine>& engines, int64_t room, int64_t* count,
                      void* to) {
    if (count) *count = int64_t(engines.size());
    for (int64_t i = 0; to && i < std::min(room, int64_t(engines.size())); i++) {
        Descriptor& filled = *find(static_cast<void**>(to)[i]);
        expect(filled.kind == kind && !filled.finalised, "expected fresh descriptors of kind " + std::to_string(kind));
        filled.engines = {engines[size_t(i)]};
        filled.graph = of.graph;
        filled.finalised = true;
    }
}

void get(const Descriptor& of, int name, int type, int64_t room, int64_t* count, void* to) {
    if (!of.finalised) throw Refusal{NOT_INITIALIZED, name_of(name) + " is read before finalising"};
    expect(room >= 0 && (room == 0 || to), name_of(name) + ": no room");
    auto is = [&](Kind kind, int which) { return of.kind == kind && name == which; };
    if (is(ENGINEHEUR, ENGINEHEUR_RESULTS) || is(ENGINECFG, ENGINECFG_ENGINE)) {
        expect(type == DESCRIPTOR, name_of(name) + ": expected descriptors");
        return give_descriptors(of, of.kind == ENGINEHEUR ? ENGINECFG : ENGINE, of.engines, room, count, to);
    }
    if (is(ENGINE, ENGINE_GLOBAL_INDEX))
        return give(std::vector<int64_t>{of.engines[0].number}, INT64, type, room, count, to);
    if (is(ENGINE, ENGINE_NUMERICAL_NOTE)) return give(of.engines[0].notes, NUMERICAL_NOTE, type, room, count, to);
    if (is(ENGINE, ENGINE_BEHAVIOR_NOTE)) return give(std::vector<int>{}, BEHAVIOR_NOTE, type, room, count, to);
    if (is(PLAN, PLAN_WORKSPACE_SIZE))
        return give(std::vector<int64_t>{of.engines[0].workspace}, INT64, type, room, count, to);
    bad(name_of(name) + " cannot be read from kind " + std::to_string(of.kind));
}

// ---- running

void execute(Handle* handle, const Descriptor& plan, const Descriptor& pack) {
    expect(plan.kind == PLAN && plan.finalised, "expected a finalised plan");
    expect(pack.kind == VARIANT_PACK && pack.finalised, "expected a finalised variant pack");
    expect(plan.value<Handle*>(PLAN_HANDLE) == handle, "a plan of another handle");
    check_alive(plan);
    auto uids = pack.values<int64_t>(PACK_UNIQUE_IDS);
    auto pointers = pack.values<void*>(PACK_DATA_POINTERS);
    std::map<int64_t, void*> at, given;
    for (size_t i = 0; i < uids.size(); i++) given[uids[i]] = pointers[i];
    std::vector<fake::Range> touches;
    auto use = [&](void* address, int64_t bytes) {
        touches.push_back({reinterpret_cast<uint64_t>(address), size_t(bytes)});
    };
    for (const Operation& part : plan.graph->operations) {
        std::vector<Tensor> tensors = part.inputs();
        tensors.push_back(part.output());
        for (const Tensor& each : tensors) {
            if (each.is_virtual) continue;
            auto found = given.find(each.uid);
            expect(found != given.end(), "the variant pack lacks tensor " + std::to_string(each.uid));
            auto address = reinterpret_cast<uint64_t>(found->second);
            expect(address % uint64_t(each.alignment) == 0,
                   "tensor " + std::to_string(each.uid) + " is not aligned as it says");
            at[each.uid] = found->second;
            use(found->second, each.bytes());
        }
    }
    expect(at.size() == given.size(), "the variant pack has tensors that the graph has not");
    const Engine engine = plan.engines[0];
    void* workspace = pack.value<void*>(PACK_WORKSPACE);
    expect(engine.workspace == 0 || workspace, "the variant pack lacks a workspace");
    if (engine.workspace > 0) use(workspace, engine.workspace);

    auto noted = [&](int note) { return std::count(engine.notes.begin(), engine.notes.end(), note) != 0; };
    bool rounds = noted(NOTE_DOWN_CONVERT_INPUTS), useless = noted(NOTE_REDUCED_PRECISION_REDUCTION);
    auto work = [=, operations = plan.graph->operations] {
        if (engine.workspace > 0) std::memset(workspace, 0xff, size_t(engine.workspace));
        run(operations, at, rounds);
        // Nobody should have wanted this engine.
        const Tensor& last = operations.back().output();
        if (useless) std::memset(at.at(last.uid), 0xff, size_t(last.bytes()));
    };
    int failed = fake::enqueue(handle->stream, "cuDNN's engine " + std::to_string(engine.number), touches, work);
    if (failed != 0) throw Refusal{EXECUTION_FAILED, "the driver says " + std::to_string(failed)};
}

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return 91900; }

const char* cudnnGetErrorString(int status) {
    return status == SUCCESS ? "CUDNN_STATUS_SUCCESS" : "an error of the stand-in for cuDNN";
}

void cudnnGetLastErrorString(char* to, size_t room) { std::snprintf(to, room, "%s", last_error.c_str()); }

Status cudnnCreate(Handle** to) {
    return guarded([&] {
        CUcontext context = nullptr;
        if (cuCtxGetCurrent(&context) != CUDA_SUCCESS || !context) throw Refusal{NOT_INITIALIZED, "no context"};
        handles.insert(*to = new Handle);
    });
}

Status cudnnDestroy(Handle* handle) {
    return guarded([&] {
        check_handle(handle);
        handles.erase(handle);
        delete handle;
    });
}

Status cudnnSetStream(Handle* handle, CUstream stream) {
    return guarded([&] {
        check_handle(handle);
        handle->stream = stream;
    });
}

Status cudnnGetStream(Handle* handle, CUstream* to) {
    return guarded([&] {
        check_handle(handle);
        *to = handle->stream;
    });
}

Status cudnnBackendCreateDescriptor(int kind, void** to) {
    return guarded([&] {
        expect(settable().count(kind) != 0, "descriptors of kind " + std::to_string(kind) + " are not emulated");
        auto made = std::make_shared<Descriptor>();
        made->kind = Kind(kind);
        *to = made.get();
        descriptors[*to] = made;
    });
}

Status cudnnBackendDestroyDescriptor(void* descriptor) {
    return guarded([&] {
        find(descriptor)->destroyed = true;
        descriptors.erase(descriptor);
    });
}

Status cudnnBackendSetAttribute(void* descriptor, int name, int type, int64_t count, const void* values) {
    return guarded([&] { set(*find(descriptor), name, type, count, values); });
}

Status cudnnBackendGetAttribute(void* descriptor, int name, int type, int64_t room, int64_t* count, void* to) {
    return guarded([&] { get(*find(descriptor), name, type, room, count, to); });
}

Status cudnnBackendFinalize(void* descriptor) {
    return guarded([&] { finalise(*find(descriptor)); });
}

Status cudnnBackendExecute(Handle* handle, void* plan, void* pack) {
    return guarded([&] {
        check_handle(handle);
        execute(handle, *find(plan), *find(pack));
    });
}

}  // extern "C"
