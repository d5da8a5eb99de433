// SPDX-License-Identifier: BSD-3-Clause
// A translator's life: init, reconfigure, fini, and the end of the process, at which GlusterFS calls nothing.
//
// Python runs in a thread of the door's own, the home: GlusterFS starts and ends translators in whatever thread it
// likes, also in ones that end, while Python's main thread must stay. Once started it stays until the process ends,
// since graphs come and go.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "door.hpp"
#include "module.hpp"
#include "nbdkit_python/error.hpp"
#include "nbdkit_python/interpreter.hpp"
#include "next.hpp"

namespace nbdkit_python::gluster {
namespace {

constexpr std::chrono::seconds patience{5};  // for what is still at work when a translator ends

class Home {
 public:
  void run(const std::function<void()>& task) {
    if (std::this_thread::get_id() == id_) return task();
    const std::lock_guard turn{turn_};
    std::unique_lock lock{mutex_};
    pthread_t thread{};
    if (!started_ && !graph_thread(&thread, live, this)) return;
    started_ = true;
    task_ = &task;
    changed_.notify_all();
    changed_.wait(lock, [&] { return task_ == nullptr; });
  }

 private:
  static void* live(void* home) noexcept {
    Home& self = *static_cast<Home*>(home);
    std::unique_lock lock{self.mutex_};
    self.id_ = std::this_thread::get_id();
    for (;;) {
      self.changed_.wait(lock, [&] { return self.task_ != nullptr; });
      (*self.task_)();
      // The translator that it was about may go next, and Python's exit hooks run here.
      graph_set_this(nullptr);
      self.task_ = nullptr;
      self.changed_.notify_all();
    }
    return nullptr;
  }

  std::mutex turn_;  // one task at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* task_ = nullptr;
  std::atomic<std::thread::id> id_;
  bool started_ = false;
};

// Never destroyed, as all that outlives the exit handlers.
Home& home() noexcept {
  static auto* const instance = new Home;
  return *instance;
}

// Those that are in a graph; used at home only.
std::vector<Instance*>& instances() noexcept {
  static auto* const list = new std::vector<Instance*>;
  return *list;
}

// The last one that has left its graph. Used at home only.
Instance* retired = nullptr;

// glusterfs._door, the half of this file that is written in Python.
PyObject* door_module = nullptr;

// Logs the pending exception.
void report(const char* where) noexcept {
  const std::string message = take_raw_failure().message;
  gluster_server().error((std::string{where} + ": " + message).c_str());
}

// Until all requests are answered and no call is at work, or it takes too long.
bool wait_until_idle(const Instance& instance) noexcept {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (instance.open > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  return instance.open == 0;
}

// The script's fini(), and the end of all that is Python's here.
void close(Instance* instance) noexcept {
  const Attach attach;
  std::erase(instances(), instance);
  PyObject* const translator = instance->translator.get();
  if (!Ref::take(PyObject_CallMethod(door_module, "stop", "O", translator))) report("fini");
  if (instance->exported > 0) {
    // Their memory is GlusterFS's, and about to go.
    const Ref left = Ref::take(PyObject_CallMethod(door_module, "release", nullptr));
    if (!left) report("fini");
    if (instance->exported > 0)
      gluster_server().error("fini: the script still has the address of a request's data, which is gone now");
  }
  set_instance(translator, nullptr);
  instance->contexts.clear();
  instance->children = Ref{};
  if (instance->open == 0) {
    instance->handlers = {};
    instance->translator = Ref{};
  }
  interpreter::flush();
}

// GlusterFS's processes end by exit(): no translator's fini is called.
void at_exit() noexcept {
  if (Thread::current().depth > 0) return;  // a script's own exit
  at_home([] {
    for (Instance* const instance : instances()) instance->ending = true;
    const auto all = instances();
    for (Instance* const instance : all) {
      wait_until_idle(*instance);
      graph_set_this(instance->xl);
      close(instance);
    }
    const Attach attach;
    if (!Ref::take(PyObject_CallMethod(interpreter::package().process.get(), "leave", nullptr))) PyErr_Clear();
  });
}

// Starts Python, once. At home.
bool start_python() noexcept {
  if (door_module != nullptr) return true;
  const Server& server = gluster_server();
  if (std::strcmp(interpreter::build(), NBDKIT_PYTHON_BUILD) != 0) {
    server.error("python.so and its libnbdkit-python.so are not of one build: install both again");
    return false;
  }
  static const bool held = interpreter::hold(server);
  if (!held) return false;
  // GlusterFS goes into the background before it reads a graph.
  interpreter::forked();
  const Attach attach;
  if (!make_module()) return report("python"), false;
  door_module = PyImport_ImportModule("glusterfs._door");
  if (door_module == nullptr) return report("python"), false;
  return std::atexit(at_exit) == 0;
}

bool put_option(void* dict, const char* key, const Item* item) noexcept {
  const Ref name = Ref::take(PyUnicode_DecodeFSDefault(key));
  // In a volume file it is a text.
  const bool number = item->type == item_signed || item->type == item_unsigned;
  const std::size_t size = number ? 0 : strnlen(item->data, item->size);
  const Ref value = number ? Ref::take(PyUnicode_FromFormat("%lld", static_cast<long long>(item->number)))
                           : Ref::take(PyUnicode_DecodeFSDefaultAndSize(item->data, static_cast<Py_ssize_t>(size)));
  return name && value && PyDict_SetItem(static_cast<PyObject*>(dict), name.get(), value.get()) == 0;
}

Ref options_of(dict_t* options) noexcept {
  Ref dict = Ref::take(PyDict_New());
  if (dict && options != nullptr && !graph_dict_visit(options, nullptr, put_option, dict.get())) return {};
  return dict;
}

Ref children_of(const xlator_t* xl) noexcept {
  const Ref list = Ref::take(PyList_New(0));
  xlator_t* child = nullptr;
  for (std::size_t i = 0; list && (child = graph_child(xl, i)) != nullptr; ++i) {
    const Ref one = make_child(child);
    if (!one || PyList_Append(list.get(), one.get()) == -1) return {};
  }
  return list ? Ref::take(PyList_AsTuple(list.get())) : Ref{};
}

// What glusterfs._door.start() has returned: the translator, and for each file operation three callables or None, and
// whether the first one starts a coroutine.
bool take_handlers(Instance& instance, PyObject* started) noexcept {
  bool defined[fop_count] = {};
  instance.translator = Ref::borrow(PyTuple_GET_ITEM(started, 0));
  PyObject* const rows = PyTuple_GET_ITEM(started, 1);
  const auto callable = [](PyObject* row, Py_ssize_t i) {
    PyObject* const item = PyTuple_GET_ITEM(row, i);
    return item == Py_None ? Ref{} : Ref::borrow(item);
  };
  for (std::size_t i = 0; i < fop_count; ++i) {
    PyObject* const row = PyList_GET_ITEM(rows, static_cast<Py_ssize_t>(i));
    instance.handlers[i] = {callable(row, 0), PyTuple_GET_ITEM(row, 3) == Py_True, callable(row, 1), callable(row, 2)};
    defined[i] = instance.handlers[i].direct || instance.handlers[i].fop || instance.handlers[i].answer;
  }
  set_instance(instance.translator.get(), &instance);
  *graph_private(instance.xl) = &instance;
  instance.fops.reset(graph_define(instance.xl, defined));
  if (!instance.fops) PyErr_NoMemory();
  return static_cast<bool>(instance.fops);
}

bool start(xlator_t* xl) noexcept {
  if (!start_python()) return false;
  const Attach attach;
  auto instance = std::make_unique<Instance>();
  instance->xl = xl;
  instance->children = children_of(xl);
  const Ref options = options_of(graph_options(xl));
  const Ref started = options && instance->children
                          ? Ref::take(PyObject_CallMethod(door_module, "start", "ssOO", graph_name(xl), graph_type(xl),
                                                          instance->children.get(), options.get()))
                          : Ref{};
  if (!started || !take_handlers(*instance, started.get())) {
    *graph_private(xl) = nullptr;
    report("init");
    interpreter::flush();
    return false;
  }
  instances().push_back(instance.release());
  return true;
}

}  // namespace

void at_home(const std::function<void()>& task) { home().run(task); }

void complain(int fop, const std::string& message) noexcept {
  graph_log(fop >= 0 ? (std::string{graph_fops[fop].name} + ": " + message).c_str() : message.c_str(), true);
}

const Server& gluster_server() noexcept {
  static const Server server = {
      .error = [](const char* message) { graph_log(message, true); },
      .debug = [](const char* message) { graph_log(message, false); },
      .set_error = [](int) {},
  };
  return server;
}

}  // namespace nbdkit_python::gluster

using namespace nbdkit_python::gluster;  // NOLINT(google-build-using-namespace): what follows is C's

int32_t door_init(xlator_t* xl) noexcept {
  if (graph_child(xl, 0) == nullptr) {
    graph_log("expected at least one subvolume in the volume file", true);
    return -1;
  }
  bool good = false;
  at_home([&] {
    graph_set_this(xl);
    good = start(xl);
  });
  return good ? 0 : -1;
}

int32_t door_reconfigure(xlator_t* xl, dict_t* options) noexcept {
  bool good = false;
  at_home([&] {
    graph_set_this(xl);
    const auto* const instance = static_cast<Instance*>(*graph_private(xl));
    if (instance == nullptr) return;
    const nbdkit_python::Attach attach;
    const auto given = options_of(options);
    good = given && nbdkit_python::Ref::take(
                        PyObject_CallMethod(door_module, "reconfigure", "OO", instance->translator.get(), given.get()));
    if (!good) report("reconfigure");
    nbdkit_python::interpreter::flush();
  });
  return good ? 0 : -1;
}

void door_fini(xlator_t* xl) noexcept {
  auto* const instance = static_cast<Instance*>(*graph_private(xl));
  if (instance == nullptr) return;
  graph_define(xl, nullptr);
  instance->ending = true;
  const bool idle = wait_until_idle(*instance);
  at_home([&] {
    graph_set_this(xl);
    close(instance);
  });
  *graph_private(xl) = nullptr;
  if (!instance->workers.stop(static_cast<int>(patience.count())) || !idle || instance->exported > 0) return;
  // Not yet: a thread of GlusterFS's may be about to say that it forgets something. The one before has had its time.
  at_home([&] { delete std::exchange(retired, instance); });
}

News door_child(xlator_t* xl, const xlator_t* child, bool up) noexcept {
  auto* const instance = static_cast<Instance*>(*graph_private(xl));
  if (instance == nullptr) return no_news;
  const auto is_up = [](const auto& entry) { return entry.second; };
  const std::lock_guard lock{instance->events};
  const bool one_was_up = std::ranges::any_of(instance->up, is_up);
  instance->up[child] = up;
  if (up) return one_was_up ? news_of_some : news_up;
  if (std::ranges::any_of(instance->up, is_up)) return news_of_some;
  // The others may be about to be up.
  return graph_child(xl, instance->up.size()) == nullptr ? news_down : no_news;
}

void door_forget(xlator_t* xl, uint64_t context) noexcept {
  if (auto* const instance = static_cast<Instance*>(*graph_private(xl))) instance->contexts.forget(context);
}
