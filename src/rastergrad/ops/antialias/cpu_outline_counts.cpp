// SPDX-License-Identifier: MIT
// What the outline method meets in a scene, counted.
#include "cpu_kernels.h"
#include "outline_pairs.h"

RG_BEGIN

template <class T> int64_t count_outlines(const OutlineCountArgs<T>& a) {
    const Scene<T>& s = a.scene;
    const OutlineEdges<T> edges(s);
    if (edges.bad_triangle() >= 0) return edges.bad_triangle();
    const Strips strips(s.height, s.width, 16384);
    Block<OutlineCounts> parts(size_t(s.images * strips.per_image));
    for_each_strip(s.threads, s.images, s.height, strips, [&](int, int64_t strip, int64_t image, int64_t begin, int64_t end) {
        Arena arena;
        IdRows<T> ids(s, image, arena);
        const OutlineRule<T> rule(s, edges, image, a.intersections, true);
        OutlineCounts n{};
        walk_strip(ids, s.height, begin, end, rule, arena, [&](Axis axis, int64_t row, int64_t column, T id0, T id1) {
            if (row < begin) return;  // a pair belongs to the strip of its first pixel
            n.pairs++;
            Blend<T> blend;
            if (!rule.look(axis, row, column, id0, id1, blend)) return;
            n.walked++;
            n.lost += blend.found.lost;
            n.steps += blend.found.steps;
            n.most_steps = maximum(n.most_steps, int64_t(blend.found.steps));
            if (!rule.take(blend)) return;
            (blend.found.what == Between::kOutline ? n.outlines : n.meetings)++;
        });
        parts[strip] = n;
    });
    *a.counts = {};
    for (int64_t i = 0; i < s.images * strips.per_image; i++) {
        const OutlineCounts& n = parts[i];
        a.counts->pairs += n.pairs;
        a.counts->walked += n.walked;
        a.counts->outlines += n.outlines;
        a.counts->meetings += n.meetings;
        a.counts->lost += n.lost;
        a.counts->steps += n.steps;
        a.counts->most_steps = maximum(a.counts->most_steps, n.most_steps);
    }
    return -1;
}

template int64_t count_outlines(const OutlineCountArgs<float>&);
RG_FLOAT64(template int64_t count_outlines(const OutlineCountArgs<double>&);)

RG_END
