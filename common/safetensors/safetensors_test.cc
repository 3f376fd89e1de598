#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "common/safetensors/format.h"
#include "common/safetensors/reader.h"
#include "common/safetensors/writer.h"
#include "common/status/testing.h"

namespace studio::safetensors {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsNull;

std::string TempPath(const std::string& name) { return testing::TempDir() + "/" + name; }

void WriteFile(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

// A file with this header and so many bytes of data.
std::string WithHeader(const std::string& json, size_t data_bytes) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return bytes + json + std::string(data_bytes, 'x');
}

absl::Status Parse(const std::string& bytes) { return ParseHeader(bytes, bytes.size(), "m.safetensors").status(); }

TEST(Safetensors, RoundTripsTensorsAndMetadata) {
  const std::string path = TempPath("round.safetensors");
  ASSERT_OK_AND_ASSIGN(auto writer, Writer::Create(path,
                                                   {{"b", Dtype::kBF16, {2, 2}},
                                                    {"a", Dtype::kF32, {1}},
                                                    {"none", Dtype::kI64, {0, 3}},
                                                    {"scalar", Dtype::kU8, {}}},
                                                   {{"format", "pt"}, {"note", "über"}}));
  ASSERT_OK(writer->Append("01234567"));
  ASSERT_OK(writer->Append("abcd"));
  ASSERT_OK(writer->Append(""));
  ASSERT_OK(writer->Append("s"));
  EXPECT_NE(access(path.c_str(), F_OK), 0) << "the file has its name before it is whole";
  ASSERT_OK(writer->Finish());

  ASSERT_OK_AND_ASSIGN(auto file, File::Open(path));
  EXPECT_EQ(file->metadata().at("note"), "über");
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->Find("a")->data, "abcd");
  EXPECT_EQ(file->Find("b")->data, "01234567");
  EXPECT_THAT(file->Find("b")->info.shape, ElementsAre(2, 2));
  EXPECT_EQ(file->Find("scalar")->info.Elements(), 1);
  EXPECT_EQ(file->Find("none")->info.Elements(), 0);
  EXPECT_THAT(file->Find("c"), IsNull());
}

TEST(Safetensors, WriterRefusesWrongSizesAndMissingTensors) {
  const std::string path = TempPath("wrong.safetensors");
  {
    ASSERT_OK_AND_ASSIGN(auto writer, Writer::Create(path, {{"w", Dtype::kF32, {2}}}));
    EXPECT_THAT(writer->Append("1234"),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("takes 8 bytes, got 4")));
    EXPECT_THAT(writer->Finish(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("0 of 1")));
  }
  EXPECT_NE(access((path + ".tmp").c_str(), F_OK), 0) << "an abandoned file is left behind";
  EXPECT_THAT(Writer::Create(path, {{"w", Dtype::kF32, {2}}, {"w", Dtype::kF32, {2}}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'w' is taken")));
}

struct BadHeader {
  const char* name;
  std::string bytes;
  const char* message;
};

class BadHeaderTest : public testing::TestWithParam<BadHeader> {};

TEST_P(BadHeaderTest, IsRefusedByName) {
  EXPECT_THAT(Parse(GetParam().bytes), StatusIs(absl::StatusCode::kInvalidArgument,
                                                AllOf(HasSubstr("m.safetensors"), HasSubstr(GetParam().message))));
}

INSTANTIATE_TEST_SUITE_P(
    Lies, BadHeaderTest,
    testing::Values(
        BadHeader{"Empty", "", "not a safetensors file"}, BadHeader{"SevenBytes", "1234567", "not a safetensors file"},
        BadHeader{"HeaderPastTheEnd", std::string("\x10\0\0\0\0\0\0\0{}", 10), "claims 16 bytes"},
        BadHeader{"HugeHeader", std::string(8, '\xff') + "{}", "claims 18446744073709551615 bytes"},
        BadHeader{"NotJson", WithHeader("{\"a\":", 0), "not a JSON object"},
        BadHeader{"Array", WithHeader("[]", 0), "not a JSON object"},
        BadHeader{"NoDtype", WithHeader(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4), "'w' lacks 'dtype'"},
        BadHeader{"UnknownDtype", WithHeader(R"({"w":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4), "'F31'"},
        BadHeader{"NegativeSize", WithHeader(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
                  "each size of the shape"},
        BadHeader{"FractionalOffset", WithHeader(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4.0]}})", 4),
                  "data_offsets must be a whole number"},
        BadHeader{"ShapeOverflow",
                  WithHeader(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0),
                  "too large"},
        BadHeader{"TruncatedData", WithHeader(R"({"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", 15),
                  "'w' claims bytes 0 to 16 of 15"},
        BadHeader{"EndBeforeBegin", WithHeader(R"({"w":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}})", 4),
                  "claims bytes 4 to 0"},
        BadHeader{"WrongByteCount", WithHeader(R"({"w":{"dtype":"BF16","shape":[4],"data_offsets":[0,16]}})", 16),
                  "takes 8 bytes, data_offsets give 16"},
        BadHeader{"Overlap",
                  WithHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                             R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                             12),
                  "'b' overlaps"},
        BadHeader{"Hole",
                  WithHeader(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                             12),
                  "'b' begins"},
        BadHeader{"BytesLeftOver", WithHeader(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5),
                  "the tensors end"},
        BadHeader{"MetadataNumber", WithHeader(R"({"__metadata__":{"n":1}})", 0), "__metadata__"}),
    [](const testing::TestParamInfo<BadHeader>& info) { return info.param.name; });

TEST(Folder, ReadsShardsByIndex) {
  const std::string dir = TempPath("shards");
  ASSERT_EQ(system(("mkdir -p " + dir).c_str()), 0);
  for (const char* name : {"one", "two"}) {
    ASSERT_OK_AND_ASSIGN(auto writer, Writer::Create(dir + "/" + name + ".safetensors", {{name, Dtype::kU8, {3}}}));
    ASSERT_OK(writer->Append(name));
    ASSERT_OK(writer->Finish());
  }
  const std::string index = dir + "/model.safetensors.index.json";
  WriteFile(index, R"({"weight_map":{"one":"one.safetensors","two":"two.safetensors"}})");
  {
    ASSERT_OK_AND_ASSIGN(const Folder folder, Folder::Open(dir));
    EXPECT_EQ(folder.Find("one")->data, "one");
    EXPECT_EQ(folder.Find("two")->data, "two");
  }
  WriteFile(index, R"({"weight_map":{"one":"two.safetensors"}})");
  EXPECT_THAT(Folder::Open(dir), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'one' is not in two")));
  WriteFile(index, R"({"weight_map":{"one":"../x.safetensors"}})");
  EXPECT_THAT(Folder::Open(dir), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'one'")));
  WriteFile(index, "{");
  EXPECT_THAT(Folder::Open(dir), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("index.json")));
  EXPECT_THAT(Folder::Open(TempPath("nowhere")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
}

}  // namespace
}  // namespace studio::safetensors
