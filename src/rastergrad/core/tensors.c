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
static PyObject *tensor_type, *parameter_type, *empty_in_python;

/* Subclasses may have an opinion about every access; those two have none. */
static int is_plain(PyObject* value) {
    PyObject* type = (PyObject*)Py_TYPE(value);
    return exchange && (type == tensor_type || type == parameter_type);
}

static void keep(PyObject** place, PyObject* value) {
    PyObject* old = *place;
    Py_INCREF(value);
    *place = value;
    Py_XDECREF(old);
}

/* use_exchange(capsule or None, Tensor, Parameter, function for empty_as) -> whether the capsule can be used */
PyObject* rg_use_exchange(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    if (count != 4) return PyErr_Format(PyExc_TypeError, "use_exchange takes a capsule, two types and a function");
    static const char name[] = "dlpack_exchange_api";
    const Exchange* offered = PyCapsule_IsValid(args[0], name) ? PyCapsule_GetPointer(args[0], name) : NULL;
    exchange = offered && offered->major == 1 && offered->view && offered->import_managed ? offered : NULL;
    keep(&tensor_type, args[1]);
    keep(&parameter_type, args[2]);
    keep(&empty_in_python, args[3]);
    return PyBool_FromLong(exchange != NULL);
}

int rg_is_tensor(PyObject* value) {
    if (is_plain(value)) return 1;
    const int found = tensor_type ? PyObject_IsInstance(value, tensor_type) : 0;
    if (found < 0) PyErr_Clear();
    return found > 0;
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

/* Whether a tensor is a plain one on the CPU; then its view. */
static int view_on_cpu(PyObject* tensor, DLTensor* view) {
    if (!is_plain(tensor)) return 0;
    if (exchange->view(tensor, view)) {
        PyErr_Clear();
        return 0;
    }
    return view->device.type == kCpu && view->dtype.lanes == 1 && view->rank <= kMaxRank;
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
    for (d = 0; d < t->rank; d++) {
        if (shape[d] <= '9') continue;
        int64_t* size = &sizes[shape[d] & 63];
        if (*size && *size != t->shape[d]) return 0;
        *size = t->shape[d];
    }
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
        if (!view_on_cpu(args[i], &t)) Py_RETURN_FALSE;
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

/* empty_as(tensor, *shape) -> contiguous tensor of its number type; empty_as(tensor) -> and of its shape */
PyObject* rg_empty_as(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    DLTensor like;
    int64_t shape[kMaxRank];
    if (count < 1 || count > 1 + kMaxRank) return PyErr_Format(PyExc_TypeError, "empty_as takes a tensor and at most %d sizes", (int)kMaxRank);
    if (!view_on_cpu(args[0], &like)) {
        PyObject* all = PyTuple_New(count);
        for (Py_ssize_t i = 0; all && i < count; i++) {
            Py_INCREF(args[i]);
            PyTuple_SetItem(all, i, args[i]);
        }
        PyObject* made = all && empty_in_python ? PyObject_CallObject(empty_in_python, all) : NULL;
        Py_XDECREF(all);
        return made;
    }
    if (count == 1) return make(like.rank, like.shape, like.dtype.code, like.dtype.bits);
    for (Py_ssize_t i = 1; i < count; i++) shape[i - 1] = PyLong_AsLongLong(args[i]);
    if (PyErr_Occurred()) return NULL;
    return make((int32_t)(count - 1), shape, like.dtype.code, like.dtype.bits);
}
