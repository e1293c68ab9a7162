#include "cli/doctor_checks.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "base/temporary_folder.h"

namespace baton::cli {
namespace {

namespace fs = std::filesystem;
using enum Verdict;

// A machine's /sys and /run, as far as the checks look at them.
class Doctor : public testing::Test {
 protected:
  void write(const fs::path& path, std::string_view content) {
    fs::create_directories((folder_.path() / path).parent_path());
    ASSERT_TRUE(write_file(folder_.path() / path, as_byte_span(content)));
  }
  void add_interface(const std::string& name, std::string_view speed, std::string_view carrier = "1\n") {
    write("sys/class/net/" + name + "/speed", speed);
    write("sys/class/net/" + name + "/carrier", carrier);
    write("sys/class/net/" + name + "/duplex", "full\n");
    write("sys/class/net/" + name + "/operstate", "up\n");
  }
  void make_card(const std::string& name) {
    fs::create_directories(folder_.path() / "sys/class/net" / name / "device");
  }
  void make_wifi(const std::string& name) {
    fs::create_directories(folder_.path() / "sys/class/net" / name / "wireless");
  }
  std::vector<Interface> interfaces() const { return read_interfaces(folder_.path()); }

  static Verdict worst(const Findings& findings) {
    return std::ranges::max_element(findings, {}, &Finding::verdict)->verdict;
  }

  const TemporaryFolder folder_ = TemporaryFolder::create("baton-test").value();
  const std::vector<engine::DeviceInfo> cpu_ = {
      {"CPU", "Some processor", engine::DeviceKind::kCpu, 32'000'000'000, 30'000'000'000}};
};

TEST_F(Doctor, ReadsWhatWasNegotiated) {
  add_interface("eth0", "10000\n");
  make_card("eth0");
  add_interface("lo", "-1\n");
  add_interface("docker0", "-1\n");
  const auto found = interfaces();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].kind, Interface::Kind::kVirtual);
  EXPECT_EQ(found[0].bits_per_second, std::nullopt);
  EXPECT_EQ(found[1].bits_per_second, 10'000'000'000U);
  EXPECT_EQ(worst(check_interfaces(found, {})), kOk);
}

TEST_F(Doctor, WarnsOfACableThatNegotiatedLittle) {
  add_interface("eth0", "100\n");
  make_card("eth0");
  const Findings findings = check_interfaces(interfaces(), {});
  EXPECT_EQ(worst(findings), kWarning);
  EXPECT_NE(findings[0].message.find("100 Mbit/s"), std::string::npos);
  EXPECT_FALSE(findings[0].advice.empty());
}

TEST_F(Doctor, CallsHalfDuplexAProblem) {
  add_interface("eth0", "1000\n");
  make_card("eth0");
  write("sys/class/net/eth0/duplex", "half\n");
  EXPECT_EQ(worst(check_interfaces(interfaces(), {})), kProblem);
}

TEST_F(Doctor, WarnsOfWifiThoughACableIsPluggedIn) {
  add_interface("wlan0", "-1\n");
  make_card("wlan0");
  make_wifi("wlan0");
  add_interface("eth0", "1000\n");
  make_card("eth0");
  const Findings by_wifi = check_interfaces(interfaces(), {{"spark", "wlan0"}});
  EXPECT_EQ(worst(by_wifi), kWarning);
  EXPECT_NE(by_wifi.back().message.find("eth0 is plugged in"), std::string::npos);
  EXPECT_EQ(worst(check_interfaces(interfaces(), {{"spark", "eth0"}})), kOk);
}

TEST_F(Doctor, NoticesGraphicsThatNobodyUses) {
  write("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n");
  write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
  write("sys/bus/pci/devices/0000:02:00.0/class", "0x020000\n");  // a network card of theirs
  write("sys/bus/pci/devices/0000:02:00.0/vendor", "0x1002\n");
  const Findings findings = check_backend(cpu_, folder_.path());
  ASSERT_EQ(findings.size(), 2U);
  EXPECT_EQ(findings[1].verdict, kWarning);
  EXPECT_NE(findings[1].message.find("NVIDIA"), std::string::npos);
  auto devices = cpu_;
  devices.insert(devices.begin(), {"CUDA0", "It", engine::DeviceKind::kGpu, 1, 1});
  const Findings used = check_backend(devices, folder_.path());
  EXPECT_EQ(worst(used), kOk);
  EXPECT_NE(used[0].message.find("computes on CUDA0"), std::string::npos);
  EXPECT_EQ(worst(check_backend({}, folder_.path())), kProblem);
}

TEST_F(Doctor, LooksForAvahi) {
  EXPECT_EQ(worst(check_discovery(folder_.path())), kWarning);
  write("run/avahi-daemon/socket", "");
  EXPECT_EQ(worst(check_discovery(folder_.path())), kOk);
}

TEST_F(Doctor, WarnsOfAModelThatDoesNotFit) {
  store::StoredModel model{.names = {"large:70b"}, .bytes = 70'000'000'000};
  EXPECT_EQ(worst(check_memory({model}, cpu_)), kWarning);
  model.bytes = 8'000'000'000;
  EXPECT_EQ(worst(check_memory({model}, cpu_)), kOk);
}

TEST_F(Doctor, CountsWhatPullsHaveLeft) {
  EXPECT_EQ(check_model_folder(folder_.path() / "absent/models").size(), 1U);
  write("models/partial/abc/m.gguf.part", "12345");
  const Findings findings = check_model_folder(folder_.path() / "models");
  EXPECT_EQ(findings.back().verdict, kWarning);
  EXPECT_NE(findings.back().message.find("5 bytes"), std::string::npos);
}

TEST_F(Doctor, JudgesPeers) {
  cluster::ControlAnswer answer;
  const auto node = [](std::string name, std::string id, std::string status, std::string software) {
    cluster::NodeReport report;
    report.name = std::move(name);
    report.id = std::move(id);
    report.status = std::move(status);
    report.software = std::move(software);
    return report;
  };
  answer.nodes = {node("here", "1", "self", "baton 1"),  node("good", "2", "alive", "baton 1"),
                  node("slow", "3", "alive", "baton 1"), node("gone", "4", "down", ""),
                  node("old", "5", "alive", "baton 0"),  node("older", "6", "incompatible", "")};
  answer.nodes[0].state.links = {{"2", 0.3, 1.1e9, 1.1e9}, {"3", 0.3, 1e7, 1.1e9}};
  const std::vector<Interface> cable = {{"eth0", Interface::Kind::kCable, true, 10'000'000'000, false}};
  const std::vector<Route> routes = {{"good", "eth0"}, {"slow", "eth0"}};
  const Findings findings = check_cluster(answer, "1", "baton 1", cable, routes);
  const auto verdict_of = [&](std::string_view name) {
    const auto found = std::ranges::find_if(findings, [&](const Finding& f) { return f.message.starts_with(name); });
    return found->verdict;
  };
  EXPECT_EQ(verdict_of("good"), kOk);
  EXPECT_EQ(verdict_of("slow"), kWarning);
  EXPECT_EQ(verdict_of("gone"), kWarning);
  EXPECT_EQ(verdict_of("old runs"), kWarning);
  EXPECT_EQ(verdict_of("older"), kProblem);
}

}  // namespace
}  // namespace baton::cli
