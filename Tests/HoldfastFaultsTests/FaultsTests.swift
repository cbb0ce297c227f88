import Foundation
import HoldfastFaults
import Testing

@Suite("Faults: one description for flags, scripts and JSON")
struct FaultsTests {
    private func decoded(_ json: String) throws -> Faults {
        try JSONDecoder().decode(Faults.self, from: Data(json.utf8))
    }

    private func refusal(_ json: String) -> String {
        #expect(throws: FaultsError.self) { try self.decoded(json) }?.description ?? ""
    }

    @Test func everyMemberSurvivesJSON() throws {
        var faults = Faults()
        let texts = [
            "cut": "to-client", "cut-packets": "delayed", "cut-reach": "existing", "reach": "new",
            "traffic": "upgrades",
            "directions": "to-server", "latency-ms": "300", "jitter-ms": "100", "bandwidth-bytes": "0",
            "drip-bytes": "3", "drip-ms": "20", "drop-fin": "both", "fin-delay-ms": "5000", "close-idle-ms": "10000",
            "close-after-ms": "60000", "upgrades": "426", "buffer-bytes": "4096", "duplicate-requests": "true",
            "corrupt": "both", "corrupt-byte": "7", "refuse": "true",
        ]
        for field in FaultField.all {
            try field.set(&faults, to: #require(texts[field.name], "\(field.name) is not tested"))
        }
        #expect(texts.count == FaultField.all.count)
        let json = try JSONEncoder().encode(faults)
        #expect(try JSONDecoder().decode(Faults.self, from: json) == faults)
        #expect(faults.upgrades == .answer(status: 426) && faults.latencyMs == 300 && faults.cut == .toClient)
        #expect(faults.cutReach == .existingConnections && faults.duplicateRequests && faults.corruptByte == 7)
    }

    @Test func whatIsLeftOutIsNoFault() throws {
        #expect(try self.decoded("{}") == Faults())
        #expect(try self.decoded(#"{"upgrades":426,"refuse":true}"#).upgrades == .answer(status: 426))
        #expect(Faults().isNone && Faults().summary == "none")
        #expect(try self.decoded(#"{"latency-ms":5,"cut":"both"}"#).summary == "cut both, latency-ms 5")
    }

    @Test(arguments: [
        (#"{"latncy-ms":1}"#, #"there is no fault "latncy-ms": did you mean "latency-ms"?"#),
        (#"{"latency_ms":1}"#, #"there is no fault "latency_ms": did you mean "latency-ms"?"#),
        (#"{"zzzzzzzzzzzzzzz":1}"#, #"there is no fault "zzzzzzzzzzzzzzz"; there are cut, cut-packets"#),
        (#"{"latency-ms":60001}"#, #"latency-ms must be a whole number of ms from 0 to 60000; it is "60001""#),
        (#"{"latency-ms":-1}"#, #"from 0 to 60000; it is "-1""#),
        (#"{"latency-ms":1.5}"#, #"it is "1.5""#),
        (#"{"latency-ms":null}"#, "it is \"null, a list or an object\""),
        (#"{"refuse":"yes"}"#, #"refuse must be true or false; it is "yes""#),
        (#"{"upgrades":"101"}"#, #"or a status from 200 to 599; it is "101""#),
        (#"{"upgrades":600}"#, #"or a status from 200 to 599; it is "600""#),
        (#"{"directions":"none"}"#, "directions must be one of both, to-server, to-client"),
        (#"{"corrupt-byte":0}"#, #"from 1 to 1000000000000; it is "0""#),
        (#"{"latency-ms":5,"jitter-ms":6}"#, "jitter-ms must be at most latency-ms, which is 5; it is 6"),
        (#"{"drip-bytes":5,"bandwidth-bytes":6}"#, "bandwidth-bytes and drip-bytes both say how fast"),
        ("[]", "faults are an object"),
    ])
    func mistakesAreNamed(json: String, error: String) {
        #expect(self.refusal(json).contains(error), "\(self.refusal(json))")
    }

    @Test func everyRangeIsHeldAtBothEnds() throws {
        for field in FaultField.all {
            guard case .number(let range, _) = field.kind else { continue }
            var faults = Faults()
            try field.set(&faults, to: String(range.lowerBound))
            try field.set(&faults, to: String(range.upperBound))
            for wrong in [range.lowerBound - 1, range.upperBound + 1] {
                #expect(throws: FaultsError.self) { try field.set(&faults, to: String(wrong)) }
            }
        }
    }

    @Test func whatSwiftSetsIsCheckedToo() {
        var faults = Faults()
        faults.upgrades = .answer(status: 101)
        #expect(throws: FaultsError.self) { try faults.validate() }
        faults = Faults()
        faults.bandwidthBytes = -1
        #expect(throws: FaultsError.self) { try faults.validate() }
    }

    @Test func errorsAreNotAsLongAsTheirCause() {
        let long = String(repeating: "x", count: 10_000)
        #expect(self.refusal("{\"cut\":\"\(long)\"}").utf8.count < 300)
        #expect(self.refusal("{\"\(long)\":1}").utf8.count < 600)
    }
}
