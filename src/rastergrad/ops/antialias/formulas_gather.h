// SPDX-License-Identifier: MIT
// Which shaded pixel lends its colour to a sub-sample (docs/definition.md 5.9), for any number type F.
#pragma once
#include "portable.h"

RG_BEGIN

// Pixels up to so many rows and columns from a sub-sample's own one are looked at: what is thinner than a pixel is seen by a centre
// now and then, so the first neighbours alone miss it.
constexpr int kReach = 2;
constexpr int kReachSide = 2 * kReach + 1;
constexpr int kCandidates = kReachSide * kReachSide;
constexpr int kOwnPixel = kCandidates / 2;  // candidates are numbered row by row

// Square pixels that a depth gap of 1 weighs as much as. At a gap of 1/16 depth outweighs every distance (12.5 at most): that much
// separates two sheets of one surface, while neighbouring pixels of one sheet differ by less than 1/100.
constexpr double kGapWeight = 200;
// Above all that distance and gap can add up to, so that a worse kind of pixel never wins.
constexpr double kOtherComponent = 1e3, kOtherSide = 1e6;

// How much farther the farther of two depths lies, 0..1 of its distance. A camera whose far plane is far has 1 - z/w = 2 near / w, so this
// is the relative difference of the distances w, whatever the units of the scene.
template <class F> RG_FN F depth_gap(F depth0, F depth1) {
    const F a = minimum(maximum(depth0, F(-1)), F(1)), b = minimum(maximum(depth1, F(-1)), F(1));
    const F gap = abs_of(a - b);
    return select(gap > F(0), gap / (F(1) - minimum(a, b)), F(0));
}

// What a pixel costs that shows another triangle, or another background, than a sub-sample at so many square pixels from its centre. The
// same triangle costs the distance alone.
template <class F>
RG_FN F penalty(F square_distance, F gap, mask_of<F> same_component, mask_of<F> same_side) {
    return square_distance + select(same_component, F(kGapWeight) * gap, select(same_side, F(kOtherComponent), F(kOtherSide)));
}

RG_END
