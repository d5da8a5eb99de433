// SPDX-License-Identifier: BSD-3-Clause
// The exporter behind a request's memoryview.
//
// Every memoryview of it, however sliced or cast, shares one export, so a count of exports above zero after the
// callback means that some view is alive. That may be a reference cycle waiting for the collector, which is harmless
// once collected. Otherwise the views are searched for and released: using one later is a ValueError in the script,
// never a read of another request's data.
#include "nbdkit_python/buffer.hpp"

#include <utility>

#include "nbdkit_python/error.hpp"

namespace nbdkit_python {

class Exporter {
 public:
  PyObject_HEAD void* data;  // null between requests
  Py_ssize_t size;
  Py_ssize_t views;
  int readonly;
};

namespace {

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  auto* const exporter = reinterpret_cast<Exporter*>(self);
  if (exporter->data == nullptr) {
    PyErr_SetString(PyExc_BufferError, "this request is over: its buffer is gone");
    view->obj = nullptr;
    return -1;
  }
  if (PyBuffer_FillInfo(view, self, exporter->data, exporter->size, exporter->readonly, flags) == -1) return -1;
  ++exporter->views;
  return 0;
}

void release_buffer(PyObject* self, Py_buffer*) { --reinterpret_cast<Exporter*>(self)->views; }

PyTypeObject* exporter_type() noexcept {
  static PyTypeObject* const type = [] {
    PyType_Slot slots[] = {
        {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
        {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
        {Py_tp_doc, const_cast<char*>("A request's buffer, good for one callback.")},
        {0, nullptr},
    };
    PyType_Spec spec = {"nbdkit.Buffer", sizeof(Exporter), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                        slots};
    return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  }();
  return type;
}

PyObject* object(Exporter* exporter) noexcept { return reinterpret_cast<PyObject*>(exporter); }

// The thread's exporter if it is free, or a new one. Null: the error indicator is set.
Exporter* obtain() noexcept {
  Thread& thread = Thread::current();
  if (thread.exporter != nullptr) return std::exchange(thread.exporter, nullptr);
  PyTypeObject* const type = exporter_type();
  return type ? PyObject_New(Exporter, type) : nullptr;
}

// gc.collect(generation), the script's setting of the collector notwithstanding.
void collect(PyObject* gc, int generation) noexcept {
  if (!Ref::take(PyObject_CallMethod(gc, "collect", "i", generation))) PyErr_Clear();
}

// Whether nothing looks at it any more once garbage is collected: often a closure's cycle is all that is left.
bool collected(PyObject* gc, const Exporter* exporter) noexcept {
  constexpr int youngest = 0, all = 2;
  for (const int generation : {youngest, all}) {
    collect(gc, generation);
    if (exporter->views == 0) return true;
  }
  return false;
}

// Takes the memory away from the memoryviews that are left. What is beyond reach is an object that was made from one
// and has the address itself, such as an array of ctypes or numpy.
void revoke(PyObject* gc, Exporter* exporter) noexcept {
  const Ref objects = Ref::take(PyObject_CallMethod(gc, "get_objects", nullptr));
  for (Py_ssize_t i = 0; objects && i < PyList_GET_SIZE(objects.get()); ++i) {
    PyObject* const item = PyList_GET_ITEM(objects.get(), i);
    if (PyMemoryView_Check(item) && PyMemoryView_GET_BUFFER(item)->obj == object(exporter) &&
        !Ref::take(PyObject_CallMethod(item, "release", nullptr)))
      PyErr_Clear();
  }
  PyErr_Clear();
}

// For when the memoryview is gone and its exporter is still in use.
bool take_back(Exporter* exporter) noexcept {
  const Ref gc = Ref::take(PyImport_ImportModule("gc"));
  if (!gc) return false;
  if (collected(gc.get(), exporter)) return true;
  revoke(gc.get(), exporter);
  script_error(
      "the request's buffer is still in use after the callback: what lasts longer must be a copy, bytes(buf), or an "
      "object made from a copy");
  return false;
}

}  // namespace

View::View(void* data, std::size_t size, bool writable) noexcept : exporter_{obtain()} {
  if (exporter_ == nullptr) return;
  exporter_->data = data;
  exporter_->size = static_cast<Py_ssize_t>(size);
  exporter_->views = 0;
  exporter_->readonly = writable ? 0 : 1;
  memoryview_ = Ref::take(PyMemoryView_FromObject(object(exporter_)));
}

View::~View() {
  if (!close()) PyErr_Clear();
}

bool View::close() noexcept {
  memoryview_ = Ref{};
  Exporter* const exporter = std::exchange(exporter_, nullptr);
  if (exporter == nullptr) return true;
  const bool gone = exporter->views == 0 || take_back(exporter);
  exporter->data = nullptr;
  // Referred to by nobody else: good for this thread's next request.
  Thread& thread = Thread::current();
  if (Py_REFCNT(object(exporter)) == 1 && thread.exporter == nullptr)
    thread.exporter = exporter;
  else
    Py_DECREF(object(exporter));
  return gone;
}

}  // namespace nbdkit_python
