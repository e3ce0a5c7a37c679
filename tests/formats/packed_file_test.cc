// Packed files that are as they should be, and damage to them: what was written is read back bit
// for bit, and no flipped bit, cut or added byte goes unnoticed.

#include "formats/packed_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

PackedLayout parse(const std::string& file) { return parse_packed(as_bytes(file), "x.pith"); }

// A packed file on disk, open.
struct OnDisk {
  explicit OnDisk(const std::string& bytes) : path(folder.file("x.pith")) {
    write_file(path, as_bytes(bytes));
    packed.emplace(PackedFile::open(path));
  }
  test::TemporaryFolder folder;
  std::string path;
  std::optional<PackedFile> packed;
};

std::vector<const proto::PlaneRecord*> planes_of(const proto::Manifest& m) {
  std::vector<const proto::PlaneRecord*> out;
  for (const auto& l : m.linears()) {
    for (const auto& t : l.terms()) {
      for (const auto& p : t.weight().planes()) out.push_back(&p);
      for (const auto& p : t.up().planes()) out.push_back(&p);
    }
    if (l.has_bias()) out.push_back(&l.bias());
  }
  for (const auto& v : m.vectors()) out.push_back(&v.plane());
  for (const auto& b : m.blobs()) out.push_back(&b.plane());
  std::ranges::sort(out, {}, [](const auto* p) { return std::pair(p->offset(), p->bytes()); });
  return out;
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::ranges::equal(a, b);
}

struct Shape {
  int64_t n, k;
};
std::vector<Shape> shapes_for(const Encoding& e) {
  if (e.kind == EncodingKind::kGgml) return {{3, 256}, {1, 512}};
  return {{5, 77}, {1, 1}, {130, 140}};
}

TEST(PackedFile, weights_of_every_encoding_come_back_bit_for_bit) {
  struct Written {
    Shape shape;
    OwnedWeight weight;
  };
  std::vector<Written> written;
  const std::string bytes = test::packed_bytes([&](PackedWriter& writer, proto::Manifest* m) {
    for (const Encoding& e : test::every_encoding()) {
      for (const Shape s : shapes_for(e)) {
        written.push_back({s, test::random_weight(e, s.n, s.k, written.size())});
        auto* record = m->add_linears();
        record->set_name(fmt::format("{} {}x{}", to_string(e), s.n, s.k));
        record->set_n(static_cast<uint64_t>(s.n));
        record->set_k(static_cast<uint64_t>(s.k));
        *record->add_terms()->mutable_weight() = writer.add_weight(written.back().weight.weight);
      }
    }
  });
  const OnDisk disk(bytes);
  disk.packed->check_planes();
  ASSERT_EQ(static_cast<size_t>(disk.packed->manifest().linears_size()), written.size());
  EXPECT_GT(written.size(), 700u);
  for (size_t i = 0; i < written.size(); ++i) {
    const auto& record = disk.packed->manifest().linears(static_cast<int>(i));
    const Weight& before = written[i].weight.weight;
    const Weight after = disk.packed->weight(record.terms(0).weight());
    ASSERT_EQ(after.encoding, before.encoding) << record.name();
    ASSERT_EQ(after.planes.size(), before.planes.size()) << record.name();
    for (size_t p = 0; p < after.planes.size(); ++p) {
      EXPECT_EQ(after.planes[p].kind, before.planes[p].kind) << record.name();
      EXPECT_TRUE(same_bytes(after.planes[p].bytes, before.planes[p].bytes)) << record.name();
    }
    const auto [n, k] = written[i].shape;
    std::vector<float> a(static_cast<size_t>(n * k)), b(a.size());
    reference_decode(before, 0, n, a.data());
    reference_decode(after, 0, n, b.data());
    EXPECT_TRUE(same_bytes(std::as_bytes(std::span(a)), std::as_bytes(std::span(b))))
        << record.name();
  }
}

TEST(PackedFile, records_of_encodings_say_all_of_them) {
  for (const Encoding& e : test::every_encoding())
    EXPECT_EQ(encoding_from(record_of(e)), e) << to_string(e);
}

TEST(PackedFile, biases_low_rank_terms_blobs_and_provenance_come_back) {
  const OnDisk disk(test::tiny_packed());
  disk.packed->check_planes();
  const proto::Manifest& m = disk.packed->manifest();
  EXPECT_EQ(m.model().SerializeAsString(), test::tiny_spec().SerializeAsString());
  EXPECT_EQ(m.provenance().evaluations(0).values().at("ppl"), 7.5);
  int biases = 0, low_rank = 0;
  for (const auto& l : m.linears()) {
    if (l.has_bias()) {
      EXPECT_EQ(disk.packed->plane(l.bias()).size(), l.n() * 4) << l.name();
      ++biases;
    }
    for (const auto& t : l.terms()) {
      if (!t.has_up()) continue;
      const Weight w = disk.packed->weight(t.weight()), up = disk.packed->weight(t.up());
      EXPECT_EQ(w.n, 4);
      EXPECT_EQ(up.k, 4);
      EXPECT_EQ(up.n, static_cast<int64_t>(l.n()));
      ++low_rank;
    }
  }
  EXPECT_EQ(biases, 3);
  EXPECT_EQ(low_rank, 1);
  const TokenizerFiles t = disk.packed->tokenizer();
  EXPECT_EQ(t.tokenizer_config, "{}");
  EXPECT_EQ(t.chat_template, "{{ messages }}");
  EXPECT_EQ(t.tokenizer_json, "");
  EXPECT_EQ(disk.packed->blob("chat_template"), "{{ messages }}");
  EXPECT_EQ(disk.packed->blob("nothing"), "");
}

TEST(PackedFile, every_file_of_a_tokenizer_has_its_blob) {
  const TokenizerFiles files = {.tokenizer_json = "a",
                                .tokenizer_config = "b",
                                .sentencepiece = std::string("c\0c", 3),
                                .gguf = "d",
                                .tiktoken = "YQ== 0\n",
                                .llama2c = "e",
                                .chat_template = "f",
                                .from = {}};
  const OnDisk disk(test::packed_bytes(
      [&](PackedWriter& writer, proto::Manifest* m) { add_tokenizer(writer, files, m); }));
  const TokenizerFiles t = disk.packed->tokenizer();
  EXPECT_EQ(t.tokenizer_json, "a");
  EXPECT_EQ(t.tokenizer_config, "b");
  EXPECT_EQ(t.sentencepiece, files.sentencepiece);
  EXPECT_EQ(t.gguf, "d");
  EXPECT_EQ(t.tiktoken, files.tiktoken);
  EXPECT_EQ(t.llama2c, "e");
  EXPECT_EQ(t.chat_template, "f");
}

TEST(PackedFile, planes_are_aligned_and_touch_and_leave_slack_before_the_manifest) {
  for (const std::string& file : {test::tiny_packed(), test::smallest_packed()}) {
    const PackedLayout layout = parse(file);
    uint64_t end = 64;
    for (const auto* p : planes_of(layout.manifest)) {
      EXPECT_EQ(p->offset() % 256, 0u);
      EXPECT_EQ(p->offset(), (end + 255) / 256 * 256);
      for (; end < p->offset(); ++end) EXPECT_EQ(file[end], '\0') << end;
      end += p->bytes();
    }
    EXPECT_GE(layout.manifest_offset, end + kSlack);
    EXPECT_LT(layout.manifest_offset, end + kSlack + 256);
    EXPECT_EQ(layout.manifest_offset % 256, 0u);
    for (; end < layout.manifest_offset; ++end) EXPECT_EQ(file[end], '\0') << end;
  }
}

TEST(PackedFile, last_planes_of_every_length_leave_slack) {
  for (size_t n = 0; n <= 520; ++n) {
    const std::string file = test::packed_bytes([&](PackedWriter& writer, proto::Manifest* m) {
      add_tokenizer(writer,
                    test::tokenizer_file(&TokenizerFiles::tokenizer_json, std::string(n, 'x')), m);
    });
    const PackedLayout layout = parse(file);
    const uint64_t end = n == 0 ? 64 : 256 + n;
    EXPECT_GE(layout.manifest_offset, end + kSlack) << n;
    EXPECT_LT(layout.manifest_offset, end + kSlack + 256) << n;
  }
}

TEST(PackedFile, the_same_model_gives_the_same_bytes) {
  EXPECT_EQ(test::tiny_packed(), test::tiny_packed());
  const auto evaluated = [](const std::vector<std::string>& order) {
    return test::packed_bytes([&](PackedWriter&, proto::Manifest* m) {
      auto* values = m->mutable_provenance()->add_evaluations()->mutable_values();
      for (const auto& key : order) (*values)[key] = static_cast<double>(key.size());
    });
  };
  EXPECT_EQ(evaluated({"a", "bb", "ccc", "dddd", "eeeee"}),
            evaluated({"eeeee", "ccc", "dddd", "a", "bb"}));
}

TEST(PackedFile, an_empty_manifest_is_the_smallest_file) {
  const std::string file = test::packed_bytes([](PackedWriter&, proto::Manifest*) {});
  EXPECT_EQ(file.size(), 256u);
  OnDisk(file).packed->check_planes();
}

TEST(PackedFile, empty_planes_share_their_offset_with_the_next_one) {
  const std::string file = test::packed_bytes([](PackedWriter& writer, proto::Manifest* m) {
    for (int i = 0; i < 100; ++i) {
      auto* blob = m->add_blobs();
      blob->set_name(fmt::format("{}", i));
      *blob->mutable_plane() =
          writer.add_plane(PlaneKind::kCodes, as_bytes(std::string(i % 3 == 1 ? 300 : 0, 'x')));
    }
  });
  // In any order of the records.
  proto::Manifest m = test::packed_manifest(file);
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    std::shuffle(m.mutable_blobs()->pointer_begin(), m.mutable_blobs()->pointer_end(), random);
    const OnDisk disk(test::with_manifest(file, m));
    disk.packed->check_planes();
    EXPECT_EQ(disk.packed->blob("4"), std::string(300, 'x'));
    EXPECT_EQ(disk.packed->blob("3"), "");
  }
}

TEST(PackedFile, a_version_from_the_future_is_unsupported_rather_than_corrupt) {
  const std::string file = test::smallest_packed();
  test::PackedHeader h = test::packed_header(file);
  h.version = 4;
  EXPECT_PITH_ERROR(parse(test::with_packed_header(file, h)), ErrorKind::kUnsupported,
                    "format version 4");
}

TEST(PackedFile, fields_of_a_later_version_are_passed_over) {
  const std::string file = test::smallest_packed();
  // Field 99 of the manifest: a text, a number, eight bytes.
  const std::string later("\x9a\x06\x03xyz\x98\x06\x05\x99\x06--------", 19);
  EXPECT_EQ(parse(test::with_manifest_bytes(file, test::packed_manifest_bytes(file) + later))
                .manifest.linears_size(),
            3);
}

// ---- Damage ----

TEST(PackedFileDamage, every_flipped_bit_of_header_and_manifest_is_found) {
  std::string file = test::tiny_packed();
  ASSERT_NO_THROW(parse(file));
  const uint64_t manifest = test::packed_header(file).manifest_offset;
  const auto try_byte = [&](size_t i) {
    for (int bit = 0; bit < 8; ++bit) {
      file[i] = static_cast<char>(file[i] ^ (1 << bit));
      EXPECT_PITH_ERROR(parse(file), ErrorKind::kCorrupt, "x.pith");
      file[i] = static_cast<char>(file[i] ^ (1 << bit));
    }
  };
  for (size_t i = 0; i < 64; ++i) try_byte(i);
  for (size_t i = manifest; i < file.size(); ++i) try_byte(i);
}

TEST(PackedFileDamage, every_truncation_is_found) {
  const std::string file = test::tiny_packed();
  for (size_t n = 0; n < file.size(); ++n) {
    EXPECT_PITH_ERROR(parse_packed(as_bytes(file).first(n), "x.pith"), ErrorKind::kCorrupt,
                      "x.pith");
  }
}

TEST(PackedFileDamage, every_truncation_behind_right_checksums_is_found) {
  const std::string file = test::smallest_packed();
  const uint64_t manifest = test::packed_header(file).manifest_offset;
  for (size_t n = manifest; n < file.size(); ++n) {
    // A message may be cut between two fields, but then planes without records are left.
    EXPECT_PITH_ERROR(parse(test::with_manifest_bytes(file, file.substr(manifest, n - manifest))),
                      ErrorKind::kCorrupt, "x.pith");
  }
}

TEST(PackedFileDamage, appended_bytes_are_found) {
  const std::string file = test::smallest_packed();
  for (const size_t n : {1, 2, 63, 64, 256, 4096}) {
    EXPECT_PITH_ERROR(parse(file + std::string(n, '\0')), ErrorKind::kCorrupt, "its header says");
    EXPECT_PITH_ERROR(parse(file + std::string(n, '\xff')), ErrorKind::kCorrupt, "its header says");
    EXPECT_PITH_ERROR(parse(std::string(n, '\0') + file), ErrorKind::kCorrupt, "magic");
  }
  EXPECT_PITH_ERROR(parse(file + file), ErrorKind::kCorrupt, "its header says");
}

TEST(PackedFileDamage, a_file_cut_on_disk_is_refused_by_name) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("cut.pith"), file = test::smallest_packed();
  write_file(path, as_bytes(file).first(file.size() / 2));
  EXPECT_PITH_ERROR(PackedFile::open(path), ErrorKind::kCorrupt, "cut.pith");
  write_file(path, {});
  EXPECT_PITH_ERROR(PackedFile::open(path), ErrorKind::kCorrupt, "cut.pith");
}

// Flips bits of a mapped file through the file underneath.
class Flipper {
 public:
  explicit Flipper(const std::string& bytes)
      : disk_(bytes), bytes_(bytes), file_(File::open_read_write(disk_.path)) {
    disk_.packed->check_planes();
  }
  void expect_found(uint64_t bit) {
    const uint64_t at = bit / 8;
    const char damaged = static_cast<char>(bytes_[at] ^ (1 << (bit % 8)));
    file_.write(at, as_bytes({&damaged, 1}));
    EXPECT_PITH_ERROR(disk_.packed->check_planes(), ErrorKind::kCorrupt, "x.pith");
    file_.write(at, as_bytes({&bytes_[at], 1}));
  }

 private:
  OnDisk disk_;
  const std::string bytes_;
  File file_;
};

TEST(PackedFileDamage, every_flipped_bit_of_planes_and_gaps_is_found) {
  const std::string file = test::smallest_packed();
  Flipper flipper(file);
  const uint64_t end = test::packed_header(file).manifest_offset;
  for (uint64_t bit = 64 * 8; bit < end * 8; ++bit) flipper.expect_found(bit);
}

TEST(PackedFileDamage, ten_thousand_flipped_bits_of_a_larger_file_are_found) {
  const std::string file = test::packed_bytes([](PackedWriter& writer, proto::Manifest* m) {
    for (const int64_t n : {64, 200, 333}) {
      auto* record = m->add_linears();
      record->set_name(fmt::format("{}", n));
      record->set_n(static_cast<uint64_t>(n));
      record->set_k(640);
      *record->add_terms()->mutable_weight() =
          writer.add_weight(test::random_weight(Encoding::integer(3, 64, false), n, 640, 1).weight);
    }
  });
  Flipper flipper(file);
  std::mt19937_64 random(1);
  std::uniform_int_distribution<uint64_t> bits(64 * 8,
                                               test::packed_header(file).manifest_offset * 8 - 1);
  for (int i = 0; i < 10'000; ++i) flipper.expect_found(bits(random));
}

TEST(PackedFileDamage, the_message_says_which_plane_or_gap_is_wrong) {
  std::string file = test::smallest_packed();
  const auto open_with = [&](uint64_t at) {
    std::string damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    const OnDisk disk(damaged);
    disk.packed->check_planes();
  };
  const auto third = planes_of(test::packed_manifest(file))[2]->offset();
  EXPECT_PITH_ERROR(open_with(third), ErrorKind::kCorrupt,
                    fmt::format("at offset {} is wrong", third));
  EXPECT_PITH_ERROR(open_with(third - 1), ErrorKind::kCorrupt,
                    fmt::format("byte {} between planes is not zero", third - 1));
  EXPECT_PITH_ERROR(open_with(64), ErrorKind::kCorrupt, "byte 64 between planes is not zero");
}

TEST(PackedFileDamage, a_wrong_checksum_in_the_manifest_is_found_by_check_planes_alone) {
  const std::string file = test::smallest_packed();
  proto::Manifest m = test::packed_manifest(file);
  auto* plane = m.mutable_vectors(0)->mutable_plane();
  plane->set_xxh3(plane->xxh3() + 1);
  const OnDisk disk(test::with_manifest(file, m));
  EXPECT_PITH_ERROR(disk.packed->check_planes(), ErrorKind::kCorrupt, "checksum");
}

// ---- Writing ----

class PackedWriting : public testing::Test {
 protected:
  test::TemporaryFolder folder_;
  File file_ = File::create(folder_.file("x.pith"));
  PackedWriter writer_{file_};
};

TEST_F(PackedWriting, a_plane_takes_exactly_the_bytes_it_was_begun_with) {
  const std::string text(10, 'x');
  PlaneWriter longer = writer_.begin_plane(PlaneKind::kCodes, 9);
  EXPECT_PITH_ERROR(longer.append(as_bytes(text)), ErrorKind::kUsage, "gets more");
  PlaneWriter shorter = writer_.begin_plane(PlaneKind::kCodes, 11);
  shorter.append(as_bytes(text));
  EXPECT_PITH_ERROR(shorter.finish(), ErrorKind::kUsage, "a plane of 11 bytes got 10");
}

TEST_F(PackedWriting, a_weight_whose_planes_are_too_short_or_too_long_is_refused) {
  for (const int change : {-1, 1}) {
    std::vector<std::byte> bytes(static_cast<size_t>(32 + change));
    const Weight w{.encoding = Encoding::dense(DType::kF32),
                   .n = 2,
                   .k = 4,
                   .planes = {{PlaneKind::kCodes, bytes}},
                   .owner = {}};
    EXPECT_PITH_ERROR(writer_.add_weight(w), ErrorKind::kUsage, "a plane of 32 bytes");
  }
}

TEST_F(PackedWriting, planes_in_the_making_do_not_disturb_each_other) {
  proto::Manifest m;
  const std::string a(700, 'a'), b(300, 'b');
  PlaneWriter first = writer_.begin_plane(PlaneKind::kCodes, a.size());
  PlaneWriter second = writer_.begin_plane(PlaneKind::kCodes, b.size());
  for (size_t i = 0; i < 700; i += 100) {
    first.append(as_bytes(a).subspan(i, 100));
    if (i < 300) second.append(as_bytes(b).subspan(i, 100));
  }
  for (auto* plane : {&first, &second}) {
    auto* blob = m.add_blobs();
    *blob->mutable_plane() = plane->finish();
    blob->set_name(fmt::format("{}", m.blobs_size()));
  }
  writer_.finish(m);
  const PackedFile packed = PackedFile::open(file_.path());
  packed.check_planes();
  EXPECT_EQ(packed.blob("1"), a);
  EXPECT_EQ(packed.blob("2"), b);
}

TEST_F(PackedWriting, a_file_begun_by_another_writer_can_be_continued_and_loses_its_old_end) {
  proto::Manifest m;
  add_tokenizer(writer_, test::tokenizer_file(&TokenizerFiles::tokenizer_json, "first"), &m);
  const uint64_t end = writer_.end();
  writer_.add_plane(PlaneKind::kCodes, as_bytes(std::string(10'000, 'x')));  // lost
  PackedWriter next(file_, end);
  add_tokenizer(next, test::tokenizer_file(&TokenizerFiles::chat_template, "second"), &m);
  const uint64_t size = next.finish(m);
  EXPECT_EQ(size, file_.size());
  const PackedFile packed = PackedFile::open(file_.path());
  packed.check_planes();
  EXPECT_EQ(packed.tokenizer().tokenizer_json, "first");
  EXPECT_EQ(packed.tokenizer().chat_template, "second");
}

TEST_F(PackedWriting, what_no_reader_would_take_is_not_written) {
  proto::Manifest m;
  m.mutable_provenance()->set_source_name("model-\xff");
  EXPECT_PITH_ERROR(writer_.finish(m), ErrorKind::kCorrupt, "source_name is not UTF-8");
  m.mutable_provenance()->set_source_name(std::string(kMaxManifestBytes, 'x'));
  EXPECT_PITH_ERROR(writer_.finish(m), ErrorKind::kUnsupported, "a manifest of");
  m.clear_provenance();
  for (uint64_t i = 0; i <= kMaxManifestRecords; ++i) m.add_blobs();
  EXPECT_PITH_ERROR(writer_.finish(m), ErrorKind::kUnsupported, "more than 1048576 records");
}

}  // namespace
}  // namespace pith
