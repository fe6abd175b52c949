// Augmentation as `ff_kernels::image` defines it: mirror, colours in their order with a clamp after each, maps one after
// the other (nearest) or all at once (bilinear), black outside. Here: what an image becomes at one pixel, and the mean
// grey that contrast needs.

// A recipe as `gpu::batch::write_recipe` lays it out.
struct Recipe {
    const float* at;
    __device__ __forceinline__ bool mirrored() const { return at[0] != 0.0f; }
    __device__ __forceinline__ bool bilinear() const { return at[1] != 0.0f; }
    __device__ __forceinline__ unsigned n_colors() const { return unsigned(at[2]); }
    __device__ __forceinline__ unsigned n_maps() const { return unsigned(at[3]); }
    __device__ __forceinline__ unsigned color(unsigned i) const { return unsigned(at[4 + 2 * i]); }
    __device__ __forceinline__ float value(unsigned i) const { return at[5 + 2 * i]; }
    __device__ __forceinline__ const float* map(unsigned i) const { return at + 12 + 6 * i; }
};
constexpr unsigned RECIPE_LEN = 24;
enum Color : unsigned { BRIGHTNESS = 0, CONTRAST = 1, SATURATION = 2, HUE = 3 };

struct Rgb {
    float r, g, b;
};

// An image (height, width, 3) u8.
struct Picture {
    const unsigned char* pixels;
    unsigned height, width;
    bool mirrored;
    __device__ __forceinline__ Rgb at(unsigned y, unsigned x) const {
        const unsigned char* p = pixels + 3 * (size_t(y) * width + (mirrored ? width - 1 - x : x));
        return Rgb{p[0] * (1.0f / 255.0f), p[1] * (1.0f / 255.0f), p[2] * (1.0f / 255.0f)};
    }
};

static __device__ __forceinline__ float unit(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

static __device__ __forceinline__ float grey(const Rgb& p) {
    return fmaf(p.b, 0.114f, fmaf(p.g, 0.587f, p.r * 0.2989f));
}

static __device__ __forceinline__ Rgb blend(const Rgb& p, float factor, float shift) {
    return Rgb{unit(fmaf(p.r, factor, shift)), unit(fmaf(p.g, factor, shift)), unit(fmaf(p.b, factor, shift))};
}

// The hue wheel as distances from a sector, see `ff_kernels::image`.
static __device__ __forceinline__ Rgb turn_hue(const Rgb& p, float turns) {
    float shift = 6.0f * turns;
    if (shift < 1.0f) shift += 6.0f;
    float most = fmaxf(fmaxf(p.r, p.g), p.b), least = fminf(fminf(p.r, p.g), p.b);
    float chroma = most - least, scale = 1.0f / fmaxf(chroma, 1e-20f);
    float from = most == p.r   ? p.g - p.b
                 : most == p.g ? fmaf(chroma, 2.0f, p.b - p.r)
                               : fmaf(chroma, 4.0f, p.r - p.g);
    float hue = fmaf(from, scale, shift);
    if (hue >= 6.0f) hue -= 6.0f;
    return Rgb{fmaf(chroma, unit(fabsf(hue - 3.0f) - 1.0f), least), fmaf(chroma, unit(2.0f - fabsf(hue - 2.0f)), least),
               fmaf(chroma, unit(2.0f - fabsf(hue - 4.0f)), least)};
}

// The first `n` colours of a recipe; `mean` is the image's mean grey where contrast has its turn.
static __device__ __forceinline__ Rgb coloured(Rgb p, const Recipe& recipe, unsigned n, float mean) {
    for (unsigned i = 0; i < n; i++) {
        float value = recipe.value(i);
        switch (recipe.color(i)) {
            case BRIGHTNESS: p = blend(p, value, 0.0f); break;
            case CONTRAST: p = blend(p, value, (1.0f - value) * mean); break;
            case SATURATION: p = blend(p, value, (1.0f - value) * grey(p)); break;
            default: p = turn_hue(p, value);
        }
    }
    return p;
}

// Blocks (parts, images): sums (images, parts) of the grey before contrast; nothing where there is no contrast.
KERNEL(grey_sums, const unsigned char* pixels, const float* recipes, unsigned height, unsigned width, float* sums) {
    Recipe recipe{recipes + blockIdx.y * RECIPE_LEN};
    unsigned before = 0;
    while (before < recipe.n_colors() && recipe.color(before) != CONTRAST) before++;
    if (before == recipe.n_colors()) return;
    unsigned area = height * width;
    Picture picture{pixels + size_t(blockIdx.y) * 3 * area, height, width, false};
    double sum = 0;
    for (unsigned i = blockIdx.x * BLOCK + threadIdx.x; i < area; i += gridDim.x * BLOCK)
        sum += grey(coloured(picture.at(i / width, i % width), recipe, before, 0.0f));
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.y * gridDim.x + blockIdx.x] = float(sum);
}

// One coordinate of a nearest map's source, in whole pixels. Operation by operation as the host does it, without fused
// multiply-adds: at a scale such as 1.07 whole rows of positions are ties, and another rounding decides them otherwise.
static __device__ __forceinline__ float along(float x, float y, float mx, float my, float m0, float half) {
    float sum = __fadd_rn(__fmul_rn(x, mx), __fmul_rn(y, my));
    sum = __fadd_rn(__fadd_rn(sum, m0), 1.0f);
    return rintf(__fadd_rn(__fmul_rn(sum, half), -0.5f));
}

// The source of an output pixel through nearest maps, the last first: `x`, `y` are replaced; false outside.
static __device__ __forceinline__ bool nearest(const Recipe& recipe, const Picture& picture, float& x, float& y) {
    float half_width = 0.5f * picture.width, half_height = 0.5f * picture.height;
    bool inside = true;
    for (unsigned i = recipe.n_maps(); i-- > 0;) {
        const float* m = recipe.map(i);
        float px = __fadd_rn(__fadd_rn(x, 0.5f), -half_width), py = __fadd_rn(__fadd_rn(y, 0.5f), -half_height);
        x = along(px, py, __fdiv_rn(m[0], half_width), __fdiv_rn(m[1], half_width), __fdiv_rn(m[2], half_width),
                  half_width);
        y = along(px, py, __fdiv_rn(m[3], half_height), __fdiv_rn(m[4], half_height), __fdiv_rn(m[5], half_height),
                  half_height);
        inside = inside && x >= 0.0f && x < float(picture.width) && y >= 0.0f && y < float(picture.height);
    }
    return inside;
}

// What an image has become at an output pixel, in [0,1].
static __device__ __forceinline__ Rgb augmented(const Recipe& recipe, const Picture& picture, unsigned y, unsigned x,
                                                float mean) {
    float from_x = float(x), from_y = float(y);
    if (recipe.n_maps() == 0 || !recipe.bilinear()) {
        if (!nearest(recipe, picture, from_x, from_y)) return Rgb{};
        return coloured(picture.at(unsigned(from_y), unsigned(from_x)), recipe, recipe.n_colors(), mean);
    }
    const float* m = recipe.map(0);
    float center_x = 0.5f * (picture.width - 1.0f), center_y = 0.5f * (picture.height - 1.0f);
    float px = from_x - center_x, py = from_y - center_y;
    from_x = fmaf(px, m[0], fmaf(py, m[1], m[2])) + center_x;
    from_y = fmaf(px, m[3], fmaf(py, m[4], m[5])) + center_y;
    float left = floorf(from_x), top = floorf(from_y), right_share = from_x - left, lower_share = from_y - top;
    Rgb sum{};
    for (unsigned corner = 0; corner < 4; corner++) {
        float at_x = left + float(corner % 2), at_y = top + float(corner / 2);
        if (at_x < 0.0f || at_x >= float(picture.width) || at_y < 0.0f || at_y >= float(picture.height)) continue;
        float share = (corner % 2 ? right_share : 1.0f - right_share) * (corner / 2 ? lower_share : 1.0f - lower_share);
        Rgb p = coloured(picture.at(unsigned(at_y), unsigned(at_x)), recipe, recipe.n_colors(), mean);
        sum = Rgb{fmaf(share, p.r, sum.r), fmaf(share, p.g, sum.g), fmaf(share, p.b, sum.b)};
    }
    return sum;
}
