// SPDX-License-Identifier: MIT
// Texture lookups on a GPU: a thread takes up to four channels of one pixel; with more channels neighbouring threads share a pixel, so that
// texels and colours are read and written in one go.
#include "cuda_lookup.h"

RG_BEGIN

struct ForwardArgs {
    Query query;
    Real* out;  // [images][pixels][channels]
};

// Four channels at once: one load of 16 bytes per texel.
RG_FN Vec4<Real> texel4(const Real* image, Whole texel, int64_t channels, int64_t c) {
    if (texel < 0) return {Real(0), Real(0), Real(0), Real(0)};
    return load4(image + int64_t(texel) * channels + c);
}
RG_FN Vec4<Real> blend4(const Query& q, const Real* image, const Texels& at, int64_t c) {
    if (q.boundary == kCube && (at.texel[0] < 0 || at.texel[1] < 0 || at.texel[2] < 0 || at.texel[3] < 0))
        return {bilinear(cell_of(q, image, at, c), at.a, at.b), bilinear(cell_of(q, image, at, c + 1), at.a, at.b),
                bilinear(cell_of(q, image, at, c + 2), at.a, at.b), bilinear(cell_of(q, image, at, c + 3), at.a, at.b)};
    const Vec4<Real> t00 = texel4(image, at.texel[0], q.channels, c), t10 = texel4(image, at.texel[1], q.channels, c),
                     t01 = texel4(image, at.texel[2], q.channels, c), t11 = texel4(image, at.texel[3], q.channels, c);
    return {bilinear(Cell<Real>{t00.x, t10.x, t01.x, t11.x}, at.a, at.b), bilinear(Cell<Real>{t00.y, t10.y, t01.y, t11.y}, at.a, at.b),
            bilinear(Cell<Real>{t00.z, t10.z, t01.z, t11.z}, at.a, at.b), bilinear(Cell<Real>{t00.w, t10.w, t01.w, t11.w}, at.a, at.b)};
}

RG_GLOBAL(texture_forward, 256, ForwardArgs, a) {
    const Query& q = a.query;
    const int64_t groups = (q.channels + 3) / 4, item = thread_number();
    int64_t pixel = item, c = 0;
    if (groups > 1) {
        pixel = item / groups;
        c = 4 * (item - pixel * groups);
    }
    if (pixel >= q.images * q.pixels) return;
    Real* const out = a.out + pixel * q.channels;
    const int64_t end = minimum(c + 4, q.channels);
    Place place{};
    if (q.shows(pixel)) place = find_place(q, pixel);
    if (!place.valid) {
        for (; c < end; c++) out[c] = Real(0);
        return;
    }
    const int64_t image = q.tex_images == 1 ? 0 : pixel / q.pixels;
    if (q.filter == kNearest) {
        const Real* const texels = image_of(q, 0, image);
        const Whole texel = find_nearest(q, place);
        for (; c < end; c++) out[c] = texel_of(texels, texel, q.channels, c);
        return;
    }
    Footprint h{};
    if (q.filter >= kLinearMipmapNearest) h = find_footprint(q, place, pixel);
    const bool mixed = h.f != Real(0);
    const Real *const fine = image_of(q, h.low, image), *const coarse = image_of(q, h.high, image);
    const Texels at = find_texels(q, place, h.low);
    Texels above = at;
    if (mixed) above = find_texels(q, place, h.high);
    if (q.by_four) {
        Vec4<Real> x = blend4(q, fine, at, c);
        if (mixed) {
            const Vec4<Real> y = blend4(q, coarse, above, c);
            x = {between_levels(x.x, y.x, h.f), between_levels(x.y, y.y, h.f), between_levels(x.z, y.z, h.f), between_levels(x.w, y.w, h.f)};
        }
        store4(out + c, x);
        return;
    }
    for (; c < end; c++) {
        Real x = bilinear(cell_of(q, fine, at, c), at.a, at.b);
        if (mixed) x = between_levels(x, bilinear(cell_of(q, coarse, above, c), above.a, above.b), h.f);
        out[c] = x;
    }
}

RG_END
