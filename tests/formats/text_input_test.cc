// Texts that users name: files, pipes, compressed ones, and what is no text.

#include "formats/text_input.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <thread>

#include "core/file.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

constexpr uint64_t kMax = 1 << 20;

class TextInput : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& bytes) {
    write_file(folder_.file(name), std::as_bytes(std::span(bytes)));
    return folder_.file(name);
  }
  static std::string gzip(const std::string& text) {
    z_stream z{};
    deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    std::string out(deflateBound(&z, text.size()) + 32, '\0');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    z.avail_in = static_cast<uInt>(text.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    deflate(&z, Z_FINISH);
    out.resize(out.size() - z.avail_out);
    deflateEnd(&z);
    return out;
  }
  const test::TemporaryFolder folder_;
};

std::string utf16(const std::string& ascii, bool big) {
  std::string out;
  for (const char c : ascii) out += big ? std::string{'\0', c} : std::string{c, '\0'};
  return out;
}

TEST_F(TextInput, is_taken_as_it_is) {
  for (const std::string text : {"", "a",
                                 "Gr\xc3\xbc\xc3\x9f"
                                 "e\r\n\n \tend",
                                 "\n\n\n"})
    EXPECT_EQ(read_text_input(file("t", text), kMax), text);
  EXPECT_EQ(read_text_input(file("t", "\xef\xbb\xbfmarked"), kMax), "marked");
}

// Refused by counting: no memory is taken for it, which a limit of the process would tell.
TEST_F(TextInput, that_unpacks_to_more_than_is_allowed_is_refused_before_memory_is_taken) {
  std::string bomb;
  const std::string member = gzip(std::string(1 << 20, 'a'));
  for (int i = 0; i < 300; ++i) bomb += member;
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  EXPECT_PITH_ERROR(read_text_input(file("bomb.gz", bomb), 250 << 20), ErrorKind::kCorrupt,
                    "more than 262144000 bytes of text when unpacked");
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 50 << 10);  // KiB
}

TEST_F(TextInput, of_a_pipe_may_be_long) {
  std::string text;
  for (int i = 0; text.size() < (70u << 20); ++i) text += "line " + std::to_string(i) + "\n";
  const std::string path = folder_.file("fifo");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&] {
    const int fd = ::open(path.c_str(), O_WRONLY);
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
    ::close(fd);
  });
  const std::string read = read_text_input(path, 1 << 30);
  writer.join();
  EXPECT_TRUE(read == text) << read.size();
}

TEST_F(TextInput, compressed_is_unpacked_whatever_its_name) {
  const std::string text = "Once upon a time\n";
  EXPECT_EQ(read_text_input(file("t.txt", gzip(text)), kMax), text);
  EXPECT_EQ(read_text_input(file("t.gz", gzip(text) + gzip(text)), kMax), text + text);
  EXPECT_EQ(read_text_input(file("t.gz", gzip("")), kMax), "");
  EXPECT_PITH_ERROR(read_text_input(file("t", gzip(text).substr(0, 20)), kMax), ErrorKind::kCorrupt,
                    "end too early");
  auto broken = gzip(std::string(1000, 'x') + text);
  broken[14] ^= 0x55;
  EXPECT_PITH_ERROR(read_text_input(file("t", broken), kMax), ErrorKind::kCorrupt, "gzip");
  // A bomb.
  EXPECT_PITH_ERROR(read_text_input(file("t", gzip(std::string(kMax + 1, 'a'))), kMax),
                    ErrorKind::kCorrupt, "more than 1048576 bytes of text when unpacked");
}

TEST_F(TextInput, that_is_no_text_is_named_for_what_it_is) {
  const std::string text = "Once upon a time there was a text.\n";
  for (const auto& [bytes, message] : {
           std::pair<std::string, const char*>{"\xff\xfe" + utf16(text, false), "UTF-16"},
           {"\xfe\xff" + utf16(text, true), "UTF-16"},
           {utf16(text, false), "iconv -f UTF-16LE"},
           {utf16(text, true), "iconv -f UTF-16BE"},
           {std::string("\xff\xfe\0\0o\0\0\0", 8), "UTF-32"},
           {text + "caf\xe9 cr\xe8me", "byte 0xe9 at 38; if it is Latin-1"},
           {text + "\x93quoted\x94", "byte 0x93"},
           {text + std::string(1, '\0') + text, "byte 35 is NUL"},
           {text + "\xe2\x82", "ends within a character"},
           {text + "\xed\xa0\x80 a surrogate", "0xed"},
           {text + "\xc0\xaf overlong", "0xc0"},
           {"\x28\xb5\x2f\xfd more", "zstd"},
           {"BZh91AY", "bzip2"},
           {"\xfd"
            "7zXZ",
            "xz"},
           {"PK\x03\x04 more", "ZIP"},
           {"PAR1 more", "Parquet"},
           {"GGUF\x03", "a GGUF model"},
           {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"},
       }) {
    EXPECT_PITH_ERROR(read_text_input(file("t", bytes), kMax), ErrorKind::kCorrupt, message);
    EXPECT_PITH_ERROR(read_text_input(file("t", gzip(bytes)), kMax), ErrorKind::kCorrupt, message);
  }
  EXPECT_PITH_ERROR(read_text_input(folder_.path(), kMax), ErrorKind::kIo, "is a folder");
  EXPECT_PITH_ERROR(read_text_input(folder_.file("none"), kMax), ErrorKind::kIo, "No such file");
  EXPECT_PITH_ERROR(read_text_input(file("t", std::string(kMax + 1, 'a')), kMax),
                    ErrorKind::kCorrupt, "more than 1048576 bytes");
  EXPECT_PITH_ERROR(read_text_input("/dev/zero", kMax), ErrorKind::kCorrupt, "more than");
}

TEST_F(TextInput, comes_through_pipes) {
  const std::string text(300'000, 'a');  // more than a pipe holds
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const auto send = [&](int fd) {
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
    ::close(fd);
  };
  {
    std::thread writer([&] { send(ends[1]); });
    EXPECT_EQ(read_text_input("/dev/fd/" + std::to_string(ends[0]), kMax), text);
    writer.join();
    ::close(ends[0]);
  }
  // A named pipe whose writer comes later.
  const std::string fifo = folder_.file("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    send(::open(fifo.c_str(), O_WRONLY));
  });
  EXPECT_EQ(read_text_input(fifo, kMax), text);
  writer.join();
}

}  // namespace
}  // namespace pith
