/* SPDX-License-Identifier: MIT
   The limited-API module: integers and floats in, an integer out. One wheel serves every Python from 3.10. */
#define Py_LIMITED_API 0x030A0000
#include <Python.h>

#include "c_api.h"

#define MAX_FIELDS 64

static PyObject* find(PyObject* self, PyObject* name) {
    (void)self;
    PyObject* bytes = PyUnicode_AsUTF8String(name);
    if (!bytes) return NULL;
    const long found = rg_find_kernel(PyBytes_AsString(bytes));
    Py_DECREF(bytes);
    return PyLong_FromLong(found);
}

static PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    int64_t fields[MAX_FIELDS];
    if (count < 1 || count - 1 > MAX_FIELDS) return PyErr_Format(PyExc_TypeError, "call takes a kernel and at most %d fields", MAX_FIELDS);
    const int32_t kernel = (int32_t)PyLong_AsLong(args[0]);
    if (PyErr_Occurred()) return NULL;
    const int32_t expected = rg_kernel_fields(kernel);
    if (expected < 0) return PyErr_Format(PyExc_ValueError, "there is no kernel %d", (int)kernel);
    if (expected != (int32_t)(count - 1))
        return PyErr_Format(PyExc_TypeError, "%s takes %d fields; got %d", rg_kernel_name(kernel), (int)expected, (int)(count - 1));
    for (Py_ssize_t i = 1; i < count; i++) {
        PyObject* value = args[i];
        if (PyFloat_Check(value)) {
            union { double number; int64_t bits; } both = {.number = PyFloat_AsDouble(value)};
            fields[i - 1] = both.bits;
        } else if (value == Py_None) {
            fields[i - 1] = 0;
        } else {
            fields[i - 1] = PyLong_AsLongLong(value);
            if (fields[i - 1] == -1 && PyErr_Occurred()) return NULL;
        }
    }
    int64_t answer;
    Py_BEGIN_ALLOW_THREADS
    answer = rg_run_kernel(kernel, fields);
    Py_END_ALLOW_THREADS
    if (answer == INT64_MIN) return PyErr_NoMemory();
    return PyLong_FromLongLong(answer);
}

static void drop_unused(PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor")) rg_delete_tensor(PyCapsule_GetPointer(capsule, "dltensor"));
}

/* empty(code, bits, *shape) -> DLPack capsule */
static PyObject* empty(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    int64_t shape[8];
    if (count < 2 || count > 10) return PyErr_Format(PyExc_TypeError, "empty takes code, bits and at most 8 sizes");
    const long code = PyLong_AsLong(args[0]), bits = PyLong_AsLong(args[1]);
    for (Py_ssize_t i = 2; i < count; i++) shape[i - 2] = PyLong_AsLongLong(args[i]);
    if (PyErr_Occurred()) return NULL;
    void* managed = rg_new_tensor((int32_t)(count - 2), shape, (int32_t)code, (int32_t)bits);
    if (!managed) return PyErr_NoMemory();
    PyObject* capsule = PyCapsule_New(managed, "dltensor", drop_unused);
    if (!capsule) rg_delete_tensor(managed);
    return capsule;
}

static PyObject* release_memory(PyObject* self, PyObject* unused) {
    (void)self; (void)unused;
    return PyLong_FromSize_t(rg_release_idle());
}
static PyObject* set_memory_limit(PyObject* self, PyObject* bytes) {
    (void)self;
    const size_t limit = PyLong_AsSize_t(bytes);
    if (PyErr_Occurred()) return NULL;
    rg_set_idle_limit(limit);
    Py_RETURN_NONE;
}
static PyObject* memory_use(PyObject* self, PyObject* unused) {
    (void)self; (void)unused;
    size_t in_use, idle, limit;
    rg_memory_use(&in_use, &idle, &limit);
    return Py_BuildValue("(KKK)", (unsigned long long)in_use, (unsigned long long)idle, (unsigned long long)limit);
}

/* (in use, all usable ones best first, whether RASTERGRAD_SIMD could not be honoured) */
static PyObject* simd(PyObject* self, PyObject* unused) {
    (void)self; (void)unused;
    const int32_t count = rg_simd_level_count();
    PyObject* names = PyTuple_New(count);
    if (!names) return NULL;
    for (int32_t i = 0; i < count; i++) {
        PyObject* name = PyUnicode_FromString(rg_simd_level_name(i));
        if (!name) { Py_DECREF(names); return NULL; }
        PyTuple_SetItem(names, i, name);
    }
    return Py_BuildValue("(sNN)", rg_simd_level_in_use(), names, PyBool_FromLong(rg_simd_choice_failed()));
}

static PyMethodDef methods[] = {
    {"find", find, METH_O, "Index of a kernel by name, or -1."},
    {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, "Run a kernel: call(kernel, *fields) -> int."},
    {"empty", (PyCFunction)(void (*)(void))empty, METH_FASTCALL, "A DLPack capsule on a recycled block."},
    {"release_memory", release_memory, METH_NOARGS, "Give idle blocks back to the system."},
    {"set_memory_limit", set_memory_limit, METH_O, "Bytes that may lie idle."},
    {"memory_use", memory_use, METH_NOARGS, "(in use, idle, limit) in bytes."},
    {"simd", simd, METH_NOARGS, "(level in use, usable levels, choice failed)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Kernels of rastergrad.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
