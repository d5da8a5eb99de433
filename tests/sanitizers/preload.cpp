// SPDX-License-Identifier: BSD-3-Clause
// Preloaded beside a sanitizer's runtime: what it needs to know of nbdkit, or of GlusterFS, with Python in it.
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>

#include <cstdlib>
#include <filesystem>
#include <iterator>

namespace {

bool alone = true;      // of this process's threads, before it forks
bool forsaken = false;  // by threads of its parent's

void before_fork() {
  const std::filesystem::directory_iterator threads{"/proc/self/task"};
  alone = std::distance(begin(threads), end(threads)) == 1;
}

void after_fork_in_child() { forsaken = forsaken || !alone; }

[[gnu::constructor]] void start() {
  // What this process and its scripts start runs without the runtime.
  unsetenv("LD_PRELOAD");
  pthread_atfork(before_fork, nullptr, after_fork_in_child);
}

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number

// What GlusterFS has loaded is not among the next ones. From here on it is for all, as the core wants it: that looks
// for the library that has Py_InitializeFromConfig, and finds this one.
template <typename Function>
Function* libpython(const char* name) {
  static void* const library = dlopen("libpython" TEXT(PY_MAJOR_VERSION) "." TEXT(PY_MINOR_VERSION) ".so.1.0",
                                      RTLD_NOLOAD | RTLD_GLOBAL | RTLD_NOW);
  return reinterpret_cast<Function*>(dlsym(library, name));
}

void* allocate(void*, size_t size) { return std::malloc(size); }
void release(void*, void* memory, size_t) { std::free(memory); }

}  // namespace

extern "C" {

// CPython keeps its frames in memory from mmap, where LeakSanitizer does not look: it would take for lost what only the
// local variables of a thread hold that still runs when the process exits.
[[gnu::visibility("default")]] PyStatus Py_InitializeFromConfig(const PyConfig* config) {
  PyObjectArenaAllocator frames{nullptr, allocate, release};
  libpython<decltype(PyObject_SetArenaAllocator)>("PyObject_SetArenaAllocator")(&frames);
  return libpython<decltype(Py_InitializeFromConfig)>("Py_InitializeFromConfig")(config);
}

// Plugins and translators stay in memory, so that a report can tell which of them has lost something.
[[gnu::visibility("default")]] int dlclose(void*) noexcept { return 0; }

// The child of a fork does not have the parent's other threads. What only their local variables held is lost there, by
// CPython's design, and LeakSanitizer, which asks this before it looks for leaks, could not tell it from other losses.
[[gnu::visibility("default")]] int __lsan_is_turned_off() { return forsaken ? 1 : 0; }

}  // extern "C"
