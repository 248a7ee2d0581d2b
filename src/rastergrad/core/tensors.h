/* SPDX-License-Identifier: MIT
   torch's tensors seen from C, through the table of functions that it has offered since 2026 (DLPack 1.3, C exchange API). One call
   reads what takes Python five attributes of 40 to 250 ns each. Without that table, torch's Python methods do the same. */
#pragma once
#if !defined(Py_LIMITED_API)
#define Py_LIMITED_API 0x030A0000
#endif
#include <Python.h>
#include <stdint.h>

/* Subclasses count. */
int rg_is_tensor(PyObject* value);
/* The address of a tensor's numbers, as a field of a kernel. 0 with a Python error set. */
int rg_tensor_address(PyObject* tensor, int64_t* address);

PyObject* rg_use_exchange(PyObject* self, PyObject* const* args, Py_ssize_t count);
PyObject* rg_ordinary(PyObject* self, PyObject* const* args, Py_ssize_t count);
PyObject* rg_empty(PyObject* self, PyObject* const* args, Py_ssize_t count);
PyObject* rg_empty_as(PyObject* self, PyObject* const* args, Py_ssize_t count);
