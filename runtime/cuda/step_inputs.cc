#include "runtime/cuda/step_inputs.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "runtime/cuda/gpu_cache.h"

namespace pith {

template <class T>
void StepInputs::set(Placed& to, std::span<const T> from) {
  if (mode_ == Mode::kEach) {
    context_.upload(to.own, from);
    to.at = to.own.data();
    return;
  }
  const size_t offset = round_up(step_bytes_.size(), 16);
  step_bytes_.resize(offset + from.size_bytes());
  std::memcpy(step_bytes_.data() + offset, from.data(), from.size_bytes());
  step_places_.emplace_back(&to, offset);
}

const int32_t* StepInputs::tokens(std::span<const int32_t> tokens) {
  if (mode_ != Mode::kUploaded) set(tokens_, tokens);
  return tokens_.data<int32_t>();
}

const int64_t* StepInputs::rows(std::span<const int64_t> rows) {
  strayed_ |= !std::ranges::equal(rows, step_rows_);
  if (mode_ != Mode::kUploaded) set(rows_, rows);
  return rows_.data<int64_t>();
}

void StepInputs::set_tiles(const Batch& batch) {
  constexpr int64_t kMany = 16;
  std::vector<cuda::QueryTile> tiles;
  bool many = false;
  int64_t row = 0;
  for (const auto& s : batch.segments) {
    many |= s.count >= kMany;
    for (int64_t i = 0; i < s.count; i += cuda::kTileQueries) {
      tiles.push_back({static_cast<int32_t>(row + i),
                       static_cast<int32_t>(std::min(cuda::kTileQueries, s.count - i)), s.slot,
                       static_cast<int32_t>(s.begin + i)});
    }
    row += s.count;
  }
  if (context_.batch_invariant) many = false;
  tile_count_ = many ? tiles.size() : 0;
  if (many) context_.upload(query_tiles_, std::span<const cuda::QueryTile>(tiles));
}

void StepInputs::set_batch(const Batch& batch, GpuKvStorage& cache) {
  if (mode_ == Mode::kUploaded) return;
  if (!context_.device.plans()) check_fits(batch, cache.pages());
  cache.upload_tables();
  if (std::ranges::equal(segments_, batch.segments) && mode_ == Mode::kEach) return;
  std::vector<int32_t> slots, at;
  longest_ = 0;
  for (const auto& s : batch.segments) {
    slots.insert(slots.end(), static_cast<size_t>(s.count), s.slot);
    for (int64_t i = 0; i < s.count; ++i) at.push_back(static_cast<int32_t>(s.begin + i));
    longest_ = std::max(longest_, s.begin + s.count);
  }
  set_tiles(batch);
  set(slots_, std::span<const int32_t>(slots));
  set(positions_, std::span<const int32_t>(at));
  segments_.assign(batch.segments.begin(), batch.segments.end());
}

int64_t StepInputs::chunks() const {
  return static_cast<int64_t>(
      std::bit_ceil(static_cast<uint64_t>(ceil_div(longest_, cuda::kChunkKeys))));
}

void StepInputs::set_angles(Angles& angles, const Batch& batch) {
  if (!angles.host.set(angles.rope, batch) && mode_ == Mode::kEach) return;
  const auto count = static_cast<size_t>(angles.host.tokens() * angles.host.half());
  set(angles.cosines, std::span(angles.host.cosines(), count));
  set(angles.sines, std::span(angles.host.sines(), count));
}

StepInputs::Rotation StepInputs::rotation(const proto::Rope& rope, const Batch& batch) {
  rope.SerializeToString(&rope_bytes_);
  const auto [it, is_new] = angles_.try_emplace(rope_bytes_);
  Angles& angles = it->second;
  if (is_new) context_.addresses_changed();  // a step has one input more, and other places
  if (mode_ != Mode::kUploaded) {
    angles.rope = rope;
    set_angles(angles, batch);
  }
  return {angles.cosines.data<float>(), angles.sines.data<float>(), angles.host.half()};
}

void StepInputs::upload_step(const Batch& batch, GpuKvStorage& cache,
                             std::span<const int64_t> rows) {
  step_bytes_.clear();
  step_places_.clear();
  step_rows_.assign(rows.begin(), rows.end());
  mode_ = Mode::kTogether;
  try {
    set(tokens_, batch.tokens);
    set(rows_, rows);
    set_batch(batch, cache);
    for (auto& [name, angles] : angles_) set_angles(angles, batch);
  } catch (...) {
    mode_ = Mode::kEach;
    throw;
  }
  mode_ = Mode::kEach;
  context_.upload(step_, std::span<const std::byte>(step_bytes_));
  for (const auto& [to, offset] : step_places_) to->at = step_.data<std::byte>() + offset;
  strayed_ = false;
}

void StepInputs::use_uploaded(FunctionRef<void()> body) {
  mode_ = Mode::kUploaded;
  try {
    body();
  } catch (...) {
    mode_ = Mode::kEach;
    throw;
  }
  mode_ = Mode::kEach;
}

}  // namespace pith
