// SPDX-License-Identifier: BSD-3-Clause
// What lends a request's memory to a script.
//
// Each thread has a lender, kept from one request to the next: a memoryview, of an exporter of our own, that is made to
// show the request's memory. The script gets a memoryview of that, which costs one object and no call of the exporter.
// However it is then sliced or cast, CPython counts it among the views of the same buffer: if there are others than the
// lender when the callback has returned, something is alive. That may be a reference cycle waiting for the collector,
// which is harmless once collected. Otherwise the views are searched for and released: using one later is a ValueError
// in the script, never a read of another request's data.
//
// What a view cannot be deprived of is its address where something else has that too: for a moment, a thread that sends
// it; for longer, an array of ctypes or numpy. Until that is gone, no request is served in this memory.
#include "nbdkit_python/buffer.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/type.hpp"

namespace nbdkit_python {

namespace {

struct Exporter {
  PyObject_HEAD void* data;  // null between requests
  Py_ssize_t size;
  Py_ssize_t views;  // buffers that it has given: the lender's, and what is made of a memoryview's `obj`
  int readonly;
};

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
  static PyTypeObject* const type =
      make_type("nbdkit.Buffer", "A request's buffer, good for one callback.", sizeof(Exporter), no_constructor,
                {{Py_bf_getbuffer, slot(get_buffer)}, {Py_bf_releasebuffer, slot(release_buffer)}});
  return type;
}

PyObject* object(Exporter* exporter) noexcept { return reinterpret_cast<PyObject*>(exporter); }

Exporter* exporter_of(PyObject* lender) noexcept {
  return reinterpret_cast<Exporter*>(PyMemoryView_GET_BUFFER(lender)->obj);
}

// Who looks at a lender from now on, or whom it lends from now on, sees this memory.
void show(PyObject* lender, void* data, std::size_t size, bool readonly) noexcept {
  Exporter& exporter = *exporter_of(lender);
  exporter.data = data;
  exporter.size = static_cast<Py_ssize_t>(size);
  exporter.readonly = readonly ? 1 : 0;
  Py_buffer& view = *PyMemoryView_GET_BUFFER(lender);
  view.buf = data;
  view.len = view.shape[0] = exporter.size;
  view.readonly = exporter.readonly;
}

// Null: the error indicator is set.
PyObject* make_lender() noexcept {
  static char nothing;
  PyTypeObject* const type = exporter_type();
  Exporter* const exporter = type ? PyObject_New(Exporter, type) : nullptr;
  if (exporter == nullptr) return nullptr;
  exporter->data = &nothing;
  exporter->size = exporter->views = exporter->readonly = 0;
  const Ref owned = Ref::take(object(exporter));
  return PyMemoryView_FromObject(owned.get());
}

// The thread's lender if it is free, or a new one. Null: the error indicator is set.
PyObject* obtain() noexcept {
  Thread& thread = Thread::current();
  return thread.lender != nullptr ? std::exchange(thread.lender, nullptr) : make_lender();
}

// Whether there are no views but the lender. CPython has the count in its headers, and no function that tells it.
bool is_alone(PyObject* lender) noexcept {
  return reinterpret_cast<PyMemoryViewObject*>(lender)->mbuf->exports == 1 && exporter_of(lender)->views == 1;
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

// Whether nothing looks at it any more once the script's threads have run: one that hands over a result, as those of an
// executor do, lets its own references go only then, and waits for the GIL to do so.
bool passed(const Exporter* exporter, std::chrono::microseconds first, int attempts) noexcept {
  for (int i = 0; i < attempts && exporter->views != 0 && threads::of_script(); ++i) {
    Py_BEGIN_ALLOW_THREADS;
    std::this_thread::sleep_for(first * (1 << i));
    Py_END_ALLOW_THREADS;
  }
  return exporter->views == 0;
}

// Whether a view is merely kept, by what the collector knows: variables, containers, attributes. What else refers to it
// may do so for its address: numpy's arrays, which the collector does not know, and ctypes', by a dict with this key.
bool is_only_kept(PyObject* gc, PyObject* view) noexcept {
  constexpr const char* key_of_ctypes = "ffffffff";
  const Ref referrers = Ref::take(PyObject_CallMethod(gc, "get_referrers", "O", view));
  Py_ssize_t known = 0;
  for (Py_ssize_t i = 0; referrers && i < PyList_GET_SIZE(referrers.get()); ++i) {
    PyObject* const referrer = PyList_GET_ITEM(referrers.get(), i);
    if (!PyDict_CheckExact(referrer) || PyDict_GetItemString(referrer, key_of_ctypes) == nullptr) ++known;
  }
  PyErr_Clear();
  return known >= Py_REFCNT(view);
}

// Takes the memory away from the memoryviews that are left. False: something may have its address still.
bool revoke(PyObject* gc, Exporter* exporter) noexcept {
  // What the script has frozen is on no other list.
  if (!Ref::take(PyObject_CallMethod(gc, "unfreeze", nullptr))) PyErr_Clear();
  const Ref objects = Ref::take(PyObject_CallMethod(gc, "get_objects", nullptr));
  bool all = static_cast<bool>(objects);
  for (Py_ssize_t i = 0; objects && i < PyList_GET_SIZE(objects.get()); ++i) {
    PyObject* const item = PyList_GET_ITEM(objects.get(), i);
    if (PyMemoryView_Check(item) && PyMemoryView_GET_BUFFER(item)->obj == object(exporter))
      all = Ref::take(PyObject_CallMethod(item, "release", nullptr)) && is_only_kept(gc, item) && all;
    PyErr_Clear();
  }
  PyErr_Clear();
  return all && exporter->views == 0;
}

// As revoke(), with time for another thread to end what it does with the memory.
bool revoke_patiently(PyObject* gc, Exporter* exporter) noexcept {
  constexpr int attempts = 10;
  for (int i = 0; i < attempts; ++i) {
    if (revoke(gc, exporter)) return true;
    Py_BEGIN_ALLOW_THREADS;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
    Py_END_ALLOW_THREADS;
  }
  return false;
}

// Memory of an earlier request that something has the address of.
struct Lost {
  Ref exporter;
  const char* begin;
  const char* end;
};

// Guarded by the GIL. Never destroyed: threads may serve while the process runs its exit handlers.
std::vector<Lost>& lost() noexcept {
  static auto* const instance = new std::vector<Lost>;
  return *instance;
}

// For when the memoryview is gone and its exporter is still in use.
bool take_back(Exporter* exporter) noexcept {
  using namespace std::chrono_literals;
  // Before the collector, which is dear; and for longer, a quarter of a second, before the request fails: where the
  // machine is busy, a thread's turn comes late.
  if (passed(exporter, 20us, 4)) return true;
  const Ref gc = Ref::take(PyImport_ImportModule("gc"));
  if (gc && collected(gc.get(), exporter)) return true;
  if (passed(exporter, 1ms, 8)) return true;
  if (!gc || !revoke_patiently(gc.get(), exporter)) {
    const auto* const begin = static_cast<const char*>(exporter->data);
    lost().push_back({Ref::borrow(object(exporter)), begin, begin + exporter->size});
  }
  script_error(
      "the request's buffer is still in use after the callback: what lasts longer must be a copy, bytes(buf), or an "
      "object made from a copy");
  return false;
}

}  // namespace

bool is_free(const void* data, std::size_t size) noexcept {
  const auto* const begin = static_cast<const char*>(data);
  const auto overlaps = [=](const Lost& item) { return item.begin < begin + size && begin < item.end; };
  for (;;) {
    const auto found = std::ranges::find_if(lost(), overlaps);
    if (found == lost().end()) return true;
    // Other threads may change the list from here on: looking for views can run the script's code.
    const Ref exporter = Ref::borrow(found->exporter.get());
    const Ref gc = Ref::take(PyImport_ImportModule("gc"));
    if (!gc) return false;
    if (!revoke(gc.get(), reinterpret_cast<Exporter*>(exporter.get()))) {
      script_error(
          "this request's memory is still in use: a thread, or an array of ctypes or numpy, has it from an earlier "
          "request's buffer; none is served in it until that is gone");
      return false;
    }
    std::erase_if(lost(), [&](const Lost& item) { return item.exporter.get() == exporter.get(); });
  }
}

View::View(void* data, std::size_t size, bool writable) noexcept : lender_{is_free(data, size) ? obtain() : nullptr} {
  if (lender_ == nullptr) return;
  show(lender_, data, size, !writable);
  memoryview_ = Ref::take(PyMemoryView_FromObject(lender_));
}

View::~View() {
  if (!close()) PyErr_Clear();
}

bool View::close() noexcept {
  memoryview_ = Ref{};
  PyObject* const lender = std::exchange(lender_, nullptr);
  if (lender == nullptr) return true;
  Exporter* const exporter = exporter_of(lender);
  Thread& thread = Thread::current();
  if (is_alone(lender) && Py_REFCNT(object(exporter)) == 1 && thread.lender == nullptr) [[likely]] {
    show(lender, nullptr, 0, true);
    // Good for this thread's next request.
    thread.lender = lender;
    return true;
  }
  // What is lent stays lent. Without the lender, the exporter counts it.
  const Ref owned = Ref::borrow(object(exporter));
  Py_DECREF(lender);
  const bool gone = exporter->views == 0 || take_back(exporter);
  exporter->data = nullptr;
  return gone;
}

}  // namespace nbdkit_python
