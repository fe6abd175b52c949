// Images into the arena: (B, H, W, 8), three channels normalised as x * scale + shift, and zeros.

// Blocks (parts, images): decoded pixels, augmented by their recipes. `greys` is what `grey_sums` left.
KERNEL(augment, const unsigned char* pixels, const float* recipes, unsigned height, unsigned width, const float* greys,
       unsigned n_greys, float scale_r, float scale_g, float scale_b, float shift_r, float shift_g, float shift_b,
       T* images) {
    unsigned area = height * width, i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= area) return;
    Recipe recipe{recipes + blockIdx.y * RECIPE_LEN};
    Picture picture{pixels + size_t(blockIdx.y) * 3 * area, height, width, recipe.mirrored()};
    float mean = 0.0f;
    for (unsigned c = 0; c < recipe.n_colors(); c++) {
        if (recipe.color(c) != CONTRAST) continue;
        double sum = 0;
        for (unsigned part = 0; part < n_greys; part++) sum += greys[blockIdx.y * n_greys + part];
        mean = float(sum / area);
    }
    Rgb p = augmented(recipe, picture, i / width, i % width, mean);
    Eight x = {{fmaf(p.r, scale_r, shift_r), fmaf(p.g, scale_g, shift_g), fmaf(p.b, scale_b, shift_b)}};
    store(images + (size_t(blockIdx.y) * area + i) * LANES, x);
}

// Blocks (parts, images): normalised planes (B, 3, H, W).
KERNEL(pack_planes, const float* planes, unsigned height, unsigned width, T* images) {
    unsigned area = height * width, i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= area) return;
    const float* from = planes + size_t(blockIdx.y) * 3 * area + i;
    Eight x = {{from[0], from[area], from[2 * area]}};
    store(images + (size_t(blockIdx.y) * area + i) * LANES, x);
}
