// SPDX-License-Identifier: BSD-3-Clause
// Ref: each way to make, move and drop one leaves the object's count right.
#include "nbdkit_python/ref.hpp"

#include <type_traits>

#include "python_code.hpp"

namespace nbdkit_python::test {
namespace {

static_assert(!std::is_copy_constructible_v<Ref> && !std::is_copy_assignable_v<Ref>);
static_assert(std::is_nothrow_move_constructible_v<Ref> && std::is_nothrow_move_assignable_v<Ref>);
static_assert(!std::is_convertible_v<PyObject*, Ref>, "whether a reference is owned must be said");
static_assert(sizeof(Ref) == sizeof(PyObject*));

class RefTest : public PythonTest {
 protected:
  RefTest() : object_{PyList_New(0)} {}
  ~RefTest() override {
    EXPECT_EQ(count(), 1);
    Py_DECREF(object_);
  }
  Py_ssize_t count() const { return Py_REFCNT(object_); }

  PyObject* const object_;
};

TEST_F(RefTest, IsEmptyByDefault) {
  const Ref ref;
  EXPECT_FALSE(ref);
  EXPECT_EQ(ref.get(), nullptr);
}

TEST_F(RefTest, TakesOver) {
  Py_INCREF(object_);
  {
    const Ref ref = Ref::take(object_);
    EXPECT_TRUE(ref);
    EXPECT_EQ(ref.get(), object_);
    EXPECT_EQ(count(), 2);
  }
  EXPECT_EQ(count(), 1);
}

TEST_F(RefTest, Borrows) {
  {
    const Ref ref = Ref::borrow(object_);
    EXPECT_EQ(count(), 2);
  }
  EXPECT_EQ(count(), 1);
}

TEST_F(RefTest, NullIsEmpty) {
  EXPECT_FALSE(Ref::take(nullptr));
  EXPECT_FALSE(Ref::borrow(nullptr));
}

TEST_F(RefTest, GivesAway) {
  Ref ref = Ref::borrow(object_);
  EXPECT_EQ(ref.release(), object_);
  EXPECT_FALSE(ref);
  EXPECT_EQ(count(), 2);
  Py_DECREF(object_);
}

TEST_F(RefTest, Moves) {
  Ref one = Ref::borrow(object_);
  Ref two{std::move(one)};
  EXPECT_FALSE(one);  // NOLINT: what is left is the point
  EXPECT_EQ(two.get(), object_);
  EXPECT_EQ(count(), 2);
}

TEST_F(RefTest, AssignmentDropsTheOldObject) {
  const Ref other = Ref::take(PyList_New(0));
  Ref ref = Ref::borrow(object_);
  ref = Ref::borrow(other.get());
  EXPECT_EQ(count(), 1);
  EXPECT_EQ(Py_REFCNT(other.get()), 2);
  ref = Ref{};
  EXPECT_FALSE(ref);
  EXPECT_EQ(Py_REFCNT(other.get()), 1);
}

TEST_F(RefTest, AssignmentToItselfKeepsTheObject) {
  Ref ref = Ref::borrow(object_);
  Ref& same = ref;
  ref = std::move(same);
  EXPECT_EQ(ref.get(), object_);
  EXPECT_EQ(count(), 2);
}

// The old object's destructor looks at the Ref that let go of it.
TEST_F(RefTest, OldObjectGoesAfterTheNewOneIsThere) {
  static Ref* watched;
  static PyObject* seen;
  Ref ref = Ref::take(PyCapsule_New(&seen, nullptr, [](PyObject*) { seen = watched->get(); }));
  watched = &ref;
  seen = nullptr;
  ref = Ref::borrow(object_);
  watched = nullptr;
  EXPECT_EQ(seen, object_);
}

}  // namespace
}  // namespace nbdkit_python::test
