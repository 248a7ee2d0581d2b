// SPDX-License-Identifier: MIT
// What a pixel sees of its triangle: docs/definition.md 2.3 and 2.4, as formulas.h has them. Corners are pulled and not clipped, and everything is taken
// relative to the pixel, where float32 does not cancel.
uniform samplerBuffer positions;
uniform isamplerBuffer triangles;  // vertex indices, three per triangle
uniform int first_triangle;
uniform vec4 pixels;  // normalised device coordinates of the centre of pixel (i, j): pixels.xy * (i, j) + pixels.zw

flat in int first_vertex;
flat in int image;

layout(location = 0) out vec4 fragment;
layout(location = 1) out vec4 slopes;
#ifdef KEY
layout(location = 2) out float key;
#endif
#ifdef BEHIND
uniform sampler2DArray previous;  // depth of what the layer before drew
#endif

// As in formulas.h, products are rounded before they are added: drivers would fuse them, and on a triangle of a pixel u and v then differ by
// a thousandth from the other backends'.
#ifdef GL_ARB_gpu_shader5
#define EXACT precise
#else
#define EXACT
#endif

const int LAST_WHOLE = 16777216;  // 2^24: beyond, the bits go on counting
const int BITS_BEYOND = 0x4A800000;

float within(float weight) {
    return weight > 0.0 ? min(weight, 1.0) : 0.0;  // a NaN becomes 0
}

float encoded(int count) {
    return count <= LAST_WHOLE ? float(count) : intBitsToFloat(count + BITS_BEYOND);
}

void main() {
    ivec2 pixel = ivec2(gl_FragCoord.xy);
#ifdef BEHIND
    if (gl_FragCoord.z <= texelFetch(previous, ivec3(pixel, image), 0).r) discard;
#endif
    int triangle = first_triangle + gl_PrimitiveID;
    vec4 p0 = texelFetch(positions, first_vertex + texelFetch(triangles, 3 * triangle).r);
    vec4 p1 = texelFetch(positions, first_vertex + texelFetch(triangles, 3 * triangle + 1).r);
    vec4 p2 = texelFetch(positions, first_vertex + texelFetch(triangles, 3 * triangle + 2).r);
    EXACT vec2 centre = vec2(pixel) * pixels.xy + pixels.zw;
    EXACT vec2 q0 = p0.xy - centre * p0.w, q1 = p1.xy - centre * p1.w, q2 = p2.xy - centre * p2.w;
    // Twice the areas opposite to the corners, and their derivatives by the centre.
    EXACT vec3 area = vec3(q1.x * q2.y - q1.y * q2.x, q2.x * q0.y - q2.y * q0.x, q0.x * q1.y - q0.y * q1.x);
    EXACT vec3 per_x = vec3(q1.y * p2.w - q2.y * p1.w, q2.y * p0.w - q0.y * p2.w, q0.y * p1.w - q1.y * p0.w);
    EXACT vec3 per_y = vec3(p1.w * q2.x - p2.w * q1.x, p2.w * q0.x - p0.w * q2.x, p0.w * q1.x - p1.w * q0.x);
    float inverse = 1.0 / (area.x + area.y + area.z);
    vec2 uv = vec2(within(area.x * inverse), within(area.y * inverse));
    uv /= max(uv.x + uv.y, 1.0);
    float depth = dot(area, vec3(p0.z, p1.z, p2.z)) / dot(area, vec3(p0.w, p1.w, p2.w));
    fragment = vec4(uv, clamp(depth, -1.0, 1.0), encoded(triangle + 1));
    vec2 step_size = pixels.xy * inverse;
    EXACT vec2 by_x = per_x.xy - uv * (per_x.x + per_x.y + per_x.z), by_y = per_y.xy - uv * (per_y.x + per_y.y + per_y.z);
    slopes = vec4(step_size * vec2(by_x.x, by_y.x), step_size * vec2(by_x.y, by_y.y));
#ifdef KEY
    key = gl_FragCoord.z;
#endif
}
