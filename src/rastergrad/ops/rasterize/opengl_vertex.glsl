// SPDX-License-Identifier: MIT
// A corner on its way to clipping. Positions are pulled, so that each image of a minibatch has its own.
uniform samplerBuffer positions;  // clip space, all vertices of an image after the other's
uniform int vertices;  // per image; 0 where images share them
uniform int first_image;

flat out int first_vertex;  // of the image
flat out int image;  // of those drawn together

const uint EXPONENT = 0x7F800000u;  // all bits set: infinite or not a number

void main() {
    image = first_image + gl_InstanceID;
    first_vertex = image * vertices;
    vec4 corner = texelFetch(positions, first_vertex + gl_VertexID);
    bool sound = all(notEqual(floatBitsToUint(corner) & EXPONENT, uvec4(EXPONENT))) && any(notEqual(corner, vec4(0.0)));
    gl_Position = sound ? corner : vec4(0.0, 0.0, 0.0, 1.0);
    // A triangle with a corner that is not finite is clipped down to its other two, and has no area.
    gl_ClipDistance[0] = sound ? 1e-30 : -1.0;
#ifdef LAYERED
    gl_Layer = image;
#endif
}
