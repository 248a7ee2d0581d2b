/* SPDX-License-Identifier: MIT */
#include "tensors.h"

#include <string.h>

#include "c_api.h"

/* The layout of DLPack 1.3 (dmlc/dlpack, dlpack.h), an ABI: facts, not code. */
typedef struct { void* data; struct { int32_t type, id; } device; int32_t rank; struct { uint8_t code, bits; uint16_t lanes; } dtype;
                 int64_t* shape; int64_t* strides; uint64_t byte_offset; } DLTensor;
typedef struct { uint32_t major, minor; const void* older; void* allocate; void* export_managed; int (*import_managed)(void*, void**);
                 int (*view)(void*, DLTensor*); void* stream; } Exchange;
enum { kCpu = 1, kInt = 0, kFloat = 2, kMaxRank = 8 };

/* Kept for the life of the process, as is the module of torch that owns them. */
static const Exchange* exchange;
static PyObject *tensor_type, *parameter_type;

/* Subclasses may have an opinion about every access; those two have none. */
static int is_plain(PyObject* value) {
    PyObject* type = (PyObject*)Py_TYPE(value);
    return exchange && (type == tensor_type || type == parameter_type);
}

/* use_exchange(capsule or None, Tensor, Parameter) -> whether it can be used */
PyObject* rg_use_exchange(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    if (count != 3) return PyErr_Format(PyExc_TypeError, "use_exchange takes a capsule and two types");
    static const char name[] = "dlpack_exchange_api";
    const Exchange* offered = PyCapsule_IsValid(args[0], name) ? PyCapsule_GetPointer(args[0], name) : NULL;
    exchange = offered && offered->major == 1 && offered->view && offered->import_managed ? offered : NULL;
    PyObject *old_tensor = tensor_type, *old_parameter = parameter_type;
    Py_INCREF(args[1]);
    Py_INCREF(args[2]);
    tensor_type = args[1];
    parameter_type = args[2];
    Py_XDECREF(old_tensor);
    Py_XDECREF(old_parameter);
    return PyBool_FromLong(exchange != NULL);
}

int rg_tensor_address(PyObject* tensor, int64_t* address) {
    DLTensor view;
    if (is_plain(tensor) && exchange->view(tensor, &view) == 0) {
        *address = (int64_t)(intptr_t)view.data + (int64_t)view.byte_offset;
        return 1;
    }
    PyErr_Clear();
    PyObject* number = PyObject_CallMethod(tensor, "data_ptr", NULL);
    if (!number) return 0;
    *address = PyLong_AsLongLong(number);
    Py_DECREF(number);
    return !PyErr_Occurred();
}

static int is_contiguous(const DLTensor* t) {
    int64_t expected = 1;
    for (int32_t d = t->rank - 1; d >= 0; d--) {
        if (t->strides && t->shape[d] != 1 && t->strides[d] != expected) return 0;
        expected *= t->shape[d];
    }
    return 1;
}

static int ends(char c) { return c == '|' || c == ' ' || c == 0; }

/* Whether a shape is "NHW4": a digit stands for itself, a letter for any size above 0, the same at all places. */
static int fits(const char* shape, const DLTensor* t, int64_t* sizes) {
    int32_t d = 0;
    for (; !ends(shape[d]); d++) {
        if (d == t->rank || t->shape[d] <= 0) return 0;
        const int64_t wanted = shape[d] <= '9' ? shape[d] - '0' : sizes[shape[d] & 63];
        if (wanted && wanted != t->shape[d]) return 0;
    }
    if (d != t->rank) return 0;
    for (d = 0; d < t->rank; d++)
        if (shape[d] > '9') sizes[shape[d] & 63] = t->shape[d];
    return 1;
}

/* ordinary("fNHWC fNHW4|HW4 ?iT3", *tensors): whether all are plain contiguous tensors on the CPU, the f's of one number type, float or
   double, the i's int32, of such shapes; those with a ? may be None. Raises nothing on tensors: what is unusual is for Python to look at. */
PyObject* rg_ordinary(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    const char* word = count ? PyUnicode_AsUTF8AndSize(args[0], NULL) : NULL;
    if (!word) return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "ordinary takes a pattern and tensors");
    int64_t sizes[64] = {0};
    uint8_t bits = 0;
    for (Py_ssize_t i = 1; i < count; i++) {
        const int optional = *word == '?';
        const char* shape = word + optional;
        const char kind = *shape;
        if (kind != 'f' && kind != 'i') return PyErr_Format(PyExc_ValueError, "the pattern has no word for tensor %d", (int)i);
        word = strchr(shape, ' ');
        word = word ? word + 1 : "";
        if (optional && args[i] == Py_None) continue;
        DLTensor t;
        if (!is_plain(args[i])) Py_RETURN_FALSE;
        if (exchange->view(args[i], &t)) {
            PyErr_Clear();
            Py_RETURN_FALSE;
        }
        if (!t.data || t.device.type != kCpu || t.dtype.lanes != 1 || t.rank > kMaxRank) Py_RETURN_FALSE;
        if (kind == 'i' && (t.dtype.code != kInt || t.dtype.bits != 32)) Py_RETURN_FALSE;
        if (kind == 'f') {
            if (t.dtype.code != kFloat || (t.dtype.bits != 32 && t.dtype.bits != 64) || (bits && bits != t.dtype.bits)) Py_RETURN_FALSE;
            bits = t.dtype.bits;
        }
        shape++;
        while (!fits(shape, &t, sizes)) {
            while (!ends(*shape)) shape++;
            if (*shape != '|') Py_RETURN_FALSE;
            shape++;
        }
        if (!is_contiguous(&t)) Py_RETURN_FALSE;
    }
    Py_RETURN_TRUE;
}

static void drop_unused(PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor")) rg_delete_tensor(PyCapsule_GetPointer(capsule, "dltensor"));
}

static PyObject* make(int32_t rank, const int64_t* shape, int32_t code, int32_t bits) {
    void* managed = rg_new_tensor(rank, shape, code, bits, exchange != NULL);
    if (!managed) return PyErr_NoMemory();
    if (exchange) {
        void* tensor = NULL;
        return exchange->import_managed(managed, &tensor) ? NULL : tensor;
    }
    PyObject* capsule = PyCapsule_New(managed, "dltensor", drop_unused);
    if (!capsule) rg_delete_tensor(managed);
    return capsule;
}

/* empty(code, bits, *shape) -> tensor, or a DLPack capsule of one where there is no exchange */
PyObject* rg_empty(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    int64_t shape[kMaxRank];
    if (count < 2 || count > 2 + kMaxRank) return PyErr_Format(PyExc_TypeError, "empty takes code, bits and at most %d sizes", (int)kMaxRank);
    const long code = PyLong_AsLong(args[0]), bits = PyLong_AsLong(args[1]);
    for (Py_ssize_t i = 2; i < count; i++) shape[i - 2] = PyLong_AsLongLong(args[i]);
    if (PyErr_Occurred()) return NULL;
    return make((int32_t)(count - 2), shape, (int32_t)code, (int32_t)bits);
}

/* empty_like(tensor) -> contiguous tensor of its shape and number type; None if it is not a plain one on the CPU */
PyObject* rg_empty_like(PyObject* self, PyObject* tensor) {
    (void)self;
    DLTensor t;
    if (!is_plain(tensor)) Py_RETURN_NONE;
    if (exchange->view(tensor, &t)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    if (t.device.type != kCpu || t.dtype.lanes != 1 || t.rank > kMaxRank) Py_RETURN_NONE;
    return make(t.rank, t.shape, t.dtype.code, t.dtype.bits);
}
