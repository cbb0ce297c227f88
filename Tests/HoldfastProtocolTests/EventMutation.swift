import Foundation
import NIOCore
import TestSupport

@testable import HoldfastProtocol

/// One case: a client's event, mostly mutated, through the envelope parser.
struct EventMutation {
    typealias Failure = FrameMutation.Failure

    var cases = 0
    var refused = 0
    /// How many texts Foundation was asked about, and how many of those it accepted.
    var compared = 0
    var comparedAccepted = 0
    var generator: SeededGenerator

    init(seed: UInt64) { self.generator = SeededGenerator(seed: seed) }

    private static let seeds = [
        #"{"event":"hello","version":1,"resume":{"session":"00000000000000ff.0123456789abcdeffedcba9876543210","received":17},"client":{"name":"x"}}"#,
        #"{"event":"subscribe","subscription":"calls.call_1","since":{"epoch":"k3f9","offset":41},"id":7}"#,
        #"{"event":"message","subscription":"a.b","data":{"n":-0.25e+3,"s":"é😀\n\u00e9","l":[[],{},null,true,false, 10]}}"#,
        #"{ "event" : "ping" , "data" : "\"\\\/\b\f\r\t" , "received" : 0 }"#,
        #"{"event":"ack","received":18446744073709551615}"#,
        #"[1,[2,{"a":"b"}],"c",0.5,-7,1e2]"#,
        #"{"ev\u0065nt":"pr\u006fbe","event":"auth","method":"ticket","ticket":""}"#, "\"text\"", "-12.5e1", " null ",
    ].map { Array($0.utf8) }

    mutating func run() throws(Failure) {
        self.cases += 1
        var bytes = Self.seeds[Int.random(in: 0..<Self.seeds.count, using: &self.generator)]
        if !self.generator.next().isMultiple(of: 16) { bytes = Mutation.apply(bytes, using: &self.generator) }
        let text = ByteBuffer(bytes: bytes)
        let value = try? JSONValue(parsing: text)
        if self.generator.next().isMultiple(of: 4) { try self.compare(bytes, isAccepted: value != nil) }
        if let value {
            guard (try? JSONValue(parsing: text.inDirtyBuffer())) == value else {
                throw Failure(what: "another value in a dirty buffer", bytes: bytes)
            }
            guard (try? JSONValue(parsing: value.raw)) == value else {
                throw Failure(what: "the raw value reads otherwise", bytes: bytes)
            }
            _ = (value.string, value.unsignedInteger, value.isFalsy, try? value.elements(limit: 3))
        }
        let object = try? JSONObject(parsing: text)
        guard (object != nil) == (value?.kind == .object) else {
            throw Failure(what: "value and object disagree", bytes: bytes)
        }
        guard let event = try? ClientEvent(parsing: text) else {
            self.refused += 1
            return
        }
        _ = (
            try? event.received(), try? event.id(), event.pingData, try? ClientHello(event),
            event.object["since"].flatMap { Position($0) }
        )
        let written = JSONWriter.object { json in
            for member in event.object.members { json.member(member.name, member.value) }
        }
        guard let again = try? ClientEvent(parsing: written), again.name == event.name,
            again.isCounted == event.isCounted,
            again.object.members.map(\.name) == event.object.members.map(\.name),
            again.object.members.map(\.value) == event.object.members.map(\.value)
        else { throw Failure(what: "written again it reads otherwise", bytes: bytes) }
    }

    /// Accepted by our scanner if and only if by Foundation. Left out is what Foundation is known to see otherwise:
    /// it guesses UTF-16 and UTF-32 from zero bytes, takes a byte order mark, does not check UTF-8, has no lone surrogates, refuses
    /// numbers that fit no type of its own, and allows a comma behind the last element.
    private mutating func compare(_ bytes: [UInt8], isAccepted: Bool) throws(Failure) {
        guard !bytes.isEmpty, !bytes.contains(0), bytes[0] < 0x80, let text = String(validating: bytes, as: UTF8.self),
            !Self.hasBigNumber(bytes),
            !text.lowercased().contains("\\ud"), !Self.hasTrailingComma(bytes)
        else { return }
        self.compared += 1
        let isAcceptedThere = (try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)) != nil
        self.comparedAccepted += isAcceptedThere ? 1 : 0
        guard isAccepted == isAcceptedThere else {
            throw Failure(what: "Foundation says \(isAcceptedThere), we say \(isAccepted): \(text)", bytes: bytes)
        }
    }

    private static func hasTrailingComma(_ bytes: [UInt8]) -> Bool {
        let dense = bytes.filter { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
        return zip(dense, dense.dropFirst()).contains { $0 == 0x2C && ($1 == 0x5D || $1 == 0x7D) }
    }

    /// 17 digits in a row, or an exponent of more than two digits.
    private static func hasBigNumber(_ bytes: [UInt8]) -> Bool {
        var digits = 0
        var isExponent = false
        for byte in bytes {
            if (0x30...0x39).contains(byte) {
                digits += 1
                if digits > (isExponent ? 2 : 17) { return true }
            } else {
                digits = 0
                isExponent = byte | 0x20 == 0x65 || isExponent && (byte == 0x2B || byte == 0x2D)
            }
        }
        return false
    }
}
