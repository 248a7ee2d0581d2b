// SPDX-License-Identifier: MIT
// A corner on its way to clipping. Positions are pulled, so that each image of a minibatch has its own.
uniform samplerBuffer positions;  // clip space, all vertices of an image after the other's
uniform int vertices;  // per image; 0 where images share them
uniform int first_image;
uniform vec2 steps;  // of 1/256 pixel from the image's centre to its sides

flat out int first_vertex;  // of the image
flat out int image;  // of those drawn together

const uint EXPONENT = 0x7F800000u;  // all bits set: infinite or not a number

void main() {
    image = first_image + gl_InstanceID;
    first_vertex = image * vertices;
    vec4 corner = texelFetch(positions, first_vertex + gl_VertexID);
    bool sound = all(notEqual(floatBitsToUint(corner) & EXPONENT, uvec4(EXPONENT))) && any(notEqual(corner, vec4(0.0)));
    gl_Position = sound ? corner : vec4(0.0, 0.0, 0.0, 1.0);
    // Positions are put on the grid here, as the other backends do it. The rasteriser would round on its own, after it has added half the
    // image's size, which costs bits: one pixel in 100,000 then shows the neighbour. With w = 1 it is the same point to
    // clipping, and nothing but depth is interpolated.
    if (corner.w > 0.0 && all(lessThanEqual(abs(corner.xyz), vec3(corner.w)))) {
        vec2 grid = roundEven(corner.xy * (1.0 / corner.w) * steps);
        gl_Position = vec4(clamp(vec3(grid / steps, corner.z / corner.w), -1.0, 1.0), 1.0);
    }
    // A triangle with a corner that is not finite is clipped down to its other two, and has no area.
    gl_ClipDistance[0] = sound ? 1e-30 : -1.0;
#ifdef LAYERED
    gl_Layer = image;
#endif
}
