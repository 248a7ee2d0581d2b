/* SPDX-License-Identifier: MIT
   The limited-API module: integers, floats and tensors in, an integer out. One wheel serves every Python from 3.10. */
#include "tensors.h"

#include "c_api.h"

#define MAX_FIELDS 96

static PyObject* find(PyObject* self, PyObject* name) {
    (void)self;
    PyObject* bytes = PyUnicode_AsUTF8String(name);
    if (!bytes) return NULL;
    const long found = rg_find_kernel(PyBytes_AsString(bytes));
    Py_DECREF(bytes);
    return PyLong_FromLong(found);
}

/* Whole numbers, None for a null pointer, floats as the bits of a double, tensors as the address of their numbers. */
static int read_fields(PyObject* const* values, Py_ssize_t count, int64_t* fields) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject* value = values[i];
        if (value == Py_None) {
            fields[i] = 0;
        } else if (PyFloat_Check(value)) {
            union { double number; int64_t bits; } both = {.number = PyFloat_AsDouble(value)};
            fields[i] = both.bits;
        } else if (!PyLong_Check(value) && rg_is_tensor(value)) {
            if (!rg_tensor_address(value, &fields[i])) return 0;
        } else {
            fields[i] = PyLong_AsLongLong(value);
            if (fields[i] == -1 && PyErr_Occurred()) return 0;
        }
    }
    return 1;
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
    if (!read_fields(args + 1, count - 1, fields)) return NULL;
    int64_t answer;
    Py_BEGIN_ALLOW_THREADS
    answer = rg_run_kernel(kernel, fields);
    Py_END_ALLOW_THREADS
    if (answer == INT64_MIN) return PyErr_NoMemory();
    return PyLong_FromLongLong(answer);
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

static PyObject* gpu_fault(const char* text) {
    PyErr_SetString(PyExc_RuntimeError, text);
    return NULL;
}

static PyObject* gpu_driver_version(PyObject* self, PyObject* unused) {
    (void)self; (void)unused;
    int32_t version = 0;
    const char* fault = rg_gpu_driver_version(&version);
    return *fault ? gpu_fault(fault) : PyLong_FromLong(version);
}

/* gpu_load(device, image) -> module */
static PyObject* gpu_load(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "gpu_load takes a device and an image");
    const int32_t device = (int32_t)PyLong_AsLong(args[0]);
    const char* image = PyBytes_AsString(args[1]);
    if (PyErr_Occurred()) return NULL;
    int64_t module = 0;
    const char* fault = rg_gpu_load(device, image, &module);
    return *fault ? gpu_fault(fault) : PyLong_FromLongLong(module);
}

/* gpu_function(device, module, name) -> (handle, threads, registers, local bytes) */
static PyObject* gpu_function(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    if (count != 3) return PyErr_Format(PyExc_TypeError, "gpu_function takes a device, a module and a name");
    const int32_t device = (int32_t)PyLong_AsLong(args[0]);
    const int64_t module = PyLong_AsLongLong(args[1]);
    PyObject* name = PyErr_Occurred() ? NULL : PyUnicode_AsUTF8String(args[2]);
    if (!name) return NULL;
    int64_t handle = 0;
    int32_t threads = 0, registers = 0, local_bytes = 0;
    const char* fault = rg_gpu_function(device, module, PyBytes_AsString(name), &handle, &threads, &registers, &local_bytes);
    Py_DECREF(name);
    return *fault ? gpu_fault(fault) : Py_BuildValue("(Liii)", (long long)handle, (int)threads, (int)registers, (int)local_bytes);
}

/* gpu_launch(handle, device, blocks x, y, z, threads, stream, *fields) */
static PyObject* gpu_launch(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    (void)self;
    enum { kFixed = 7 };
    int64_t fixed[kFixed], fields[MAX_FIELDS];
    if (count < kFixed || count - kFixed > MAX_FIELDS)
        return PyErr_Format(PyExc_TypeError, "gpu_launch takes %d numbers and at most %d fields", (int)kFixed, MAX_FIELDS);
    if (!read_fields(args, kFixed, fixed) || !read_fields(args + kFixed, count - kFixed, fields)) return NULL;
    const char* fault;
    Py_BEGIN_ALLOW_THREADS
    fault = rg_gpu_launch(fixed[0], (int32_t)fixed[1], fixed[2], fixed[3], fixed[4], fixed[5], fixed[6], fields);
    Py_END_ALLOW_THREADS
    if (*fault) return gpu_fault(fault);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"find", find, METH_O, "Index of a kernel by name, or -1."},
    {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, "Run a kernel: call(kernel, *fields) -> int."},
    {"use_exchange", (PyCFunction)(void (*)(void))rg_use_exchange, METH_FASTCALL, "use_exchange(capsule, Tensor, Parameter, empty_as): torch's table for C."},
    {"ordinary", (PyCFunction)(void (*)(void))rg_ordinary, METH_FASTCALL, "ordinary(pattern, *tensors): whether nothing about them is unusual."},
    {"empty", (PyCFunction)(void (*)(void))rg_empty, METH_FASTCALL, "A tensor on a recycled block, or its DLPack capsule."},
    {"empty_as", (PyCFunction)(void (*)(void))rg_empty_as, METH_FASTCALL, "empty_as(tensor, *shape): a tensor of its number type; of its shape too if none is given."},
    {"release_memory", release_memory, METH_NOARGS, "Give idle blocks back to the system."},
    {"set_memory_limit", set_memory_limit, METH_O, "Bytes that may lie idle."},
    {"memory_use", memory_use, METH_NOARGS, "(in use, idle, limit) in bytes."},
    {"simd", simd, METH_NOARGS, "(level in use, usable levels, choice failed)."},
    {"gpu_driver_version", gpu_driver_version, METH_NOARGS, "13000 for CUDA 13.0."},
    {"gpu_load", (PyCFunction)(void (*)(void))gpu_load, METH_FASTCALL, "A compiled program onto a device: gpu_load(device, image) -> module."},
    {"gpu_function", (PyCFunction)(void (*)(void))gpu_function, METH_FASTCALL, "(handle, threads, registers, local bytes) of a kernel."},
    {"gpu_launch", (PyCFunction)(void (*)(void))gpu_launch, METH_FASTCALL, "Start a kernel with one struct of fields."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Kernels of rastergrad.", -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
