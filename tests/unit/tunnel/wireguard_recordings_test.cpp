// Conversations recorded from wireguard-go 0.0.20220316 (Debian 12), replayed: wireguard-go's first
// message, our answer to it, and the first packet it sealed with the session that came of both.
//
// Recorded with freshly generated keys by
//   wg-probe respond --listen 51001 --record --private-key-file ... --peer-public-key ...
// while wireguard-go, set up as in tests/e2e/test_wireguard_handshake.py, was made to send one
// ping from 10.9.0.1 to 10.9.0.2. wg-probe prints the randomness it drew, so that the test can
// answer with the very ephemeral key that wireguard-go saw and open what it sealed in return.
#include <gtest/gtest.h>

#include <cstring>

#include "lib/net/parse.h"
#include "lib/tunnel/cookie.h"
#include "lib/tunnel/noise.h"
#include "lib/tunnel/seal.h"
#include "tests/unit/tunnel/samples.h"

namespace adit::tunnel {
namespace {

using test::bytes_of_hex;

struct Recording {
  const char* initiator_private_key;  // wireguard-go's
  const char* responder_private_key;  // ours
  const char* preshared_key;          // "" = none
  const char* responder_ephemeral;    // as drawn, not yet clamped
  uint32_t responder_index;
  const char* initiation;
  const char* first_packet;
};

constexpr Recording kRecordings[] = {
    {"kEwm4tDXrmC4/Gac6vFGl1xbDEAUlM+nheFL9GfvpXA=", "YNDZl8M+QrHcB8lU9fjMri8TN0ekrIDtHBmsSrMfsEQ=",
     "", "4c5e8451f7532eabfc67a8eef53bc320c04635564f31b2cc7d8702d05d0ea111", 0x50d43a8a,
     "010000009147d8640b643fbbf623490dede301e477b6cdd6abd747cf0bd9fabdf26f103ebd0f8517ba8a"
     "2c6802c2ff041d0c98b6e46caed79d8cb9b7849c2fe48cffc2abdf3fc3a7807f5cea6c8076332be0cdaf"
     "9e736cd0f9b61c72ec5f410bfea51df8eb31e21e3bf4c7e1d8aac4ba08fa79631dcfa7358baf0625acbb"
     "a242248b8e8f00000000000000000000000000000000",
     "040000008a3ad4500000000000000000dbe2c589d9bcb17c494023850bf07f70038e8c6a684f77b452a8"
     "0632189b46c4fade72377ce2a018efcf255a58af2cf51555c549139351444beb06bb409bb4b2fe776a9a"
     "bccc37b647d02abf5cab1361a176c5f8c421bbb888333828df2ed594facf2d1528d2cfe19b120b8086f2"
     "502c"},
    {"aILMr5jhodZstdjDuGjcDqoetBG+qkm2Oqs30LM8EUY=", "6AQVb4dQ2XWsRfdSZc46VGHSOEOJyOYwM5XM0Lw39Fg=",
     "akBXQKgGSvCTBbB576lORGMkFkGP7s76f/qirLU52uY=",
     "c23e9adf8795cd9c5683d54a7e8877072b8971d0c32f3bc80cc21193ecfa4343", 0x877ad41e,
     "01000000935551d643345e84a12a2813bf6ad3d8181293388c6d1ad72416352206afad689f83a0620ee8"
     "c93c4e1ef5fd75c12fafde5ca1c481b6d4211669268a46f3a30155047a5e5419b32a7d215395832ca52c"
     "ae0672bec04f2b4cef2fc0a43ded6b655a4889d4690befbd619a519927946e6328472f574c4ea87fde00"
     "af014cf01d2f00000000000000000000000000000000",
     "040000001ed47a870000000000000000747fbe93bf506c616dd15b3fef8085a8b296201c126f7f814b57"
     "3cc145f7a50f70693c92a1f6887b199d967f0ac2b4bda509bc40e93b7f32a1a7fc0107772e89b7541c4d"
     "878e1e1b6e3b41e61720d6d8bbfe65b1282f4014f3f1359773feed50408453edbbb12904ddf78cc1339e"
     "b3ab"},
    {"QOlnHTo50jW+5CUcr5w0SnRdOnaB1unlK1Kvt6/e8mU=", "UHLL3kgMaF5Xxhbxtp8GiT2VYs100xhf03heSxMf+XQ=",
     "", "656524daa1f1031616b0728bd7eb9c2fd179c8d673f36590c29b5cb66ac41ee0", 0x4f030c75,
     "01000000e55bc9b6f04061fcfaad252600cbdace3b9b0646b0688764443ba0c5e14e1a18f7103e04f963"
     "84a152058f4b3441a2190e8f4d22b02fda1f3ae2cbd1f3effd2dcaafa36ef294c6631a067e1bc188c00b"
     "20143b2e7cd41f25cf9c6b570ea887ba7004c6b1d972e4b819e161a0bab1eb7241a050ee78a8cf13d8df"
     "2df1b772680200000000000000000000000000000000",
     "04000000750c034f00000000000000009d281f5a8c5f6af16998cddc2b132fa7d5886f78f37532de49f1"
     "5afc2a83e2ac3ecd5992e7b836400eaa2a5af9f6dab18585eea7dcc32a060a9998c0bf69287ab0a0c7a6"
     "3bba920417b2956ea31bcf33bd960d840476405838d34bb4da7b5d230e604baef56c893028c9b0a745aa"
     "839b"},
    {"gE0k2m1S7BpUVA26dPbn+LGf6gJf2+mgyplXRKPBsWk=", "cFKaAZd2FsprJXCn8WPcrRfRfhDcjxYr+hc8pbrgfEU=",
     "adxU/1u5Rojrhx9d/BaoVw5KeTWUnnVr56bcyYCW9Zs=",
     "b10f081fe6f21ef1f8f5508628fa1dc2195a545ee29d8b246232bacfc95a1d20", 0xef8d3b79,
     "0100000024ac6390ab34bcfdbf8f5a54e78cc9084d7048a4b284295ae3b706ec8b09ca64b02a3f67ad6b"
     "5f4061958c02e3bed5afa229e37d291e7e22bd5a6b5c3f62e70ae92a65c7e8bc405e26dbcb098508c39a"
     "abd9bc49ee09d18f6a5e992209160a65887e6c83e5d7aa32752971c5025946b7d765aab1ec48a732a2ff"
     "c0f57fd0dc0600000000000000000000000000000000",
     "04000000793b8def000000000000000091c8e2fbd32e03443d85a61723f16b372b7b7da24cdd6914dde6"
     "b139002f55eec3e039f359a1c02c5ee875784f4b2dd26b8798dae2d56ffd4e289962bcbb3a11814dde42"
     "b3a8ecf3e86f2e73752b19e528d8473139c2576e50f2bd41e25d3070ed95646c08bf789f7f3012ce6f7c"
     "420b"},
};

class WireGuardGo : public testing::TestWithParam<Recording> {
 protected:
  static PrivateKey key_of(const char* base64) { return {from_base64(base64).value()}; }

  InitiationMessage recorded_initiation() const {
    InitiationMessage message;
    const auto bytes = bytes_of_hex(GetParam().initiation);
    EXPECT_EQ(bytes.size(), sizeof(message));
    std::memcpy(&message, bytes.data(), sizeof(message));
    return message;
  }

  const Identity responder = make_identity(key_of(GetParam().responder_private_key));
  const PublicKey initiator = public_key_of(key_of(GetParam().initiator_private_key));
};

TEST_P(WireGuardGo, StampsItsInitiationAsOursExpects) {
  const RandomSource random = test::seeded_random(1);
  CookieChecker checker(responder.public_key);
  EXPECT_EQ(checker.check(bytes_of_hex(GetParam().initiation), {}, 0, random),
            CookieChecker::Verdict::mac1_only);
}

TEST_P(WireGuardGo, IsUnderstoodWhenItInitiates) {
  const InitiationMessage message = recorded_initiation();
  const auto opened = open_initiation(responder, message);
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->remote_public_key, initiator);
  EXPECT_EQ(opened->remote_index, message.sender_index.host());
  EXPECT_EQ(opened->offered, ProtectionSet{});
  // Recorded on a machine whose clock said 24 November 2026.
  EXPECT_GT(opened->timestamp, tai64n_from_unix(1'795'478'400, 0));
  EXPECT_LT(opened->timestamp, tai64n_from_unix(1'795'564'800, 0));
}

TEST_P(WireGuardGo, SealsItsFirstPacketWithTheSessionThatOurAnswerMakes) {
  PresharedKey preshared;
  if (*GetParam().preshared_key != 0) preshared.bytes = *from_base64(GetParam().preshared_key);
  const auto remote = make_remote_identity(responder, initiator, preshared);
  const auto opened = open_initiation(responder, recorded_initiation());
  ASSERT_TRUE(remote && opened);
  const RandomSource recorded = [](std::span<uint8_t> out) {
    const auto bytes = bytes_of_hex(GetParam().responder_ephemeral);
    ASSERT_EQ(out.size(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), out.begin());
  };
  ResponseMessage response;
  const auto session = create_response(*opened, *remote, GetParam().responder_index,
                                       Protection::chacha20_poly1305, 0, recorded, response);
  ASSERT_TRUE(session);

  auto packet = bytes_of_hex(GetParam().first_packet);
  EncryptedHeader header;
  std::memcpy(&header, packet.data(), sizeof(header));
  EXPECT_EQ(header.receiver_index.host(), session->local_index);
  EXPECT_EQ(header.counter.host(), 0u);
  const auto text_bytes = Aead(session->protection, session->receive_key).open(packet);
  ASSERT_TRUE(text_bytes);
  ParsedIpv4 inner;
  ASSERT_EQ(parse_ipv4(std::span(packet).subspan(sizeof(header), *text_bytes),
                       HeaderChecksum::verify, inner),
            ParseError::none);
  EXPECT_EQ(inner.protocol, kIpIcmp);
  EXPECT_EQ(inner.total_bytes, 84) << "ping's packet, before WireGuard's padding";
  EXPECT_EQ(*text_bytes, padded_bytes(84, 1420));
}

INSTANTIATE_TEST_SUITE_P(Recorded, WireGuardGo, testing::ValuesIn(kRecordings),
                         [](const auto& recording) {
                           return (*recording.param.preshared_key ? "WithPsk" : "WithoutPsk") +
                                  std::to_string(recording.index);
                         });

}  // namespace
}  // namespace adit::tunnel
