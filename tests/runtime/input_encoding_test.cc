// How inputs are rounded, as a file says it: written, read, carried through a compression.

#include "formats/encodings/input.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/file.h"
#include "runtime/compress/driver.h"
#include "runtime/model/source.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

const InputEncoding kInputs[] = {
    {},
    {.dtype = DType::kI8, .scale = InputScale::kToken},
    {.dtype = DType::kI8, .scale = InputScale::kTensor, .value = 0.0625f},
    {.dtype = DType::kI8, .scale = InputScale::kBlock128},
    {.dtype = DType::kF8E4M3, .scale = InputScale::kToken},
    {.dtype = DType::kF8E4M3, .scale = InputScale::kTensor, .value = 0x1.234568p-100f},
    {.dtype = DType::kF8E4M3, .scale = InputScale::kBlock128},
};

// What the test below writes for the linear of this number.
const InputEncoding& input_of(size_t i) { return kInputs[i % std::size(kInputs)]; }

std::unique_ptr<ModelSource> write_and_open(const test::TemporaryFolder& folder) {
  const std::string file = test::tiny_packed();
  proto::Manifest m = test::packed_manifest(file);
  for (int i = 0; i < m.linears_size(); ++i) {
    const InputEncoding& e = input_of(static_cast<size_t>(i));
    if (e.rounds()) *m.mutable_linears(i)->mutable_input() = record_of(e);
  }
  write_file(folder.file("in.pith"), as_bytes(test::with_manifest(file, m)));
  return open_model(folder.file("in.pith"));
}

TEST(InputEncoding, names_say_type_and_scale) {
  const char* const names[] = {"f32",          "i8-token",      "i8-tensor",      "i8-block128",
                               "f8e4m3-token", "f8e4m3-tensor", "f8e4m3-block128"};
  for (size_t i = 0; i < std::size(kInputs); ++i) {
    EXPECT_EQ(to_string(kInputs[i]), names[i]);
    check(kInputs[i]);
  }
}

TEST(InputEncoding, nonsense_is_refused) {
  for (const DType dtype : {DType::kF16, DType::kF8E5M2, DType::kU8, DType::kI64})
    EXPECT_PITH_ERROR(check(InputEncoding{dtype}), ErrorKind::kUsage, info(dtype).name);
  for (const float value : {0.0f, -1.0f, 0x1p-127f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
    const InputEncoding wrong{.dtype = DType::kI8, .scale = InputScale::kTensor, .value = value};
    EXPECT_PITH_ERROR(check(wrong), ErrorKind::kUsage, "no scale of inputs");
  }
}

TEST(InputEncoding, is_read_as_it_was_written) {
  const test::TemporaryFolder folder;
  const auto source = write_and_open(folder);
  size_t i = 0;
  for (const auto& info : linears_of(source->spec())) {
    EXPECT_EQ(source->form(info).input, input_of(i)) << info.name;
    EXPECT_EQ(source->linear(info).input, input_of(i)) << info.name;
    ++i;
  }
  EXPECT_GT(i, std::size(kInputs));
}

TEST(InputEncoding, files_without_it_use_inputs_as_they_are) {
  const test::TemporaryFolder folder;
  write_file(folder.file("in.pith"), as_bytes(test::tiny_packed()));
  const auto source = open_model(folder.file("in.pith"));
  for (const auto& info : linears_of(source->spec()))
    EXPECT_EQ(source->linear(info).input, InputEncoding{}) << info.name;
}

// Sets the inputs of one linear; leaves the others.
class SetInput final : public Pass {
 public:
  explicit SetInput(const InputEncoding& e) : e_(e) {}
  std::string recipe() const override { return "  - set_input\n"; }
  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override {
    return {.terms = so_far.terms, .input = info.role == LinearRole::kDown ? e_ : so_far.input};
  }
  void apply(const StageContext& at) override {
    for (const auto& info : at.stage.linears) {
      if (info.role != LinearRole::kDown) continue;
      find_linear(at.block, info).input = e_;
      at.report[info.name].method = "set";
    }
  }

 private:
  InputEncoding e_;
};

TEST(InputEncoding, goes_through_a_compression_and_passes_can_set_it) {
  const test::TemporaryFolder folder;
  const auto source = write_and_open(folder);
  const InputEncoding set{.dtype = DType::kI8, .scale = InputScale::kTensor, .value = 3};
  Passes passes;
  passes.push_back(std::make_unique<SetInput>(set));
  CompressOptions options;
  options.output = folder.file("out.pith");
  compress(*source, passes, options);
  const auto result = open_model(options.output);
  size_t i = 0;
  for (const auto& info : linears_of(result->spec())) {
    const bool down = info.role == LinearRole::kDown;
    EXPECT_EQ(result->linear(info).input, down ? set : input_of(i)) << info.name;
    ++i;
  }
}

}  // namespace
}  // namespace pith
