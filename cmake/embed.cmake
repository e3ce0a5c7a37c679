# Writes builtin_texts() (runtime/compress/builtin_text.h) over FILES into OUT:
#   cmake -DOUT=file.cc "-DFILES=a.txt;b.txt" -P embed.cmake
set(arrays "")
set(list "")
set(number 0)
foreach(path IN LISTS FILES)
  file(READ ${path} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
  get_filename_component(name ${path} NAME)
  string(APPEND arrays "constexpr unsigned char kText${number}[] = {\n${bytes}};\n")
  string(APPEND list "      {\"${name}\", {reinterpret_cast<const char*>(kText${number}), sizeof(kText${number})}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUT} "#include \"runtime/compress/builtin_text.h\"

namespace pith {
namespace {

${arrays}
}  // namespace

std::span<const BuiltinText> builtin_texts() {
  static const BuiltinText all[] = {
${list}  };
  return all;
}

}  // namespace pith
")
