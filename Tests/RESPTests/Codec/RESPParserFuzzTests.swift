import Foundation
import NIOCore
import TestSupport
import Testing

@testable import RESP

/// Seeded mutations of valid streams, and random bytes. `HOLDFAST_FUZZ_SECONDS` (default 1) is how long;
/// `HOLDFAST_FUZZ_SEED` repeats a run.
struct RESPParserFuzzTests {
    private static let seconds = ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_SECONDS"].flatMap(Double.init) ?? 1
    private static let seed =
        ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_SEED"].flatMap { UInt64($0) }
        ?? UInt64.random(in: 0...UInt64.max)
    /// Fewer cases would mean that the run has not run.
    private static let leastCases = 500

    private static let interesting: [UInt8] =
        Array("+-$!=:,#(_*%~>|;.?\r\n0123456789et".utf8) + [0x00, 0x7F, 0x80, 0xFF]

    /// Small ones, so that mutations reach them.
    private static var limits: RESPParser.Limits {
        var limits = RESPParser.Limits()
        limits.bulkBytes = 200
        limits.lineBytes = 60
        limits.depth = 5
        limits.elements = 40
        limits.valueBytes = 300
        return limits
    }

    @Test func mutations() {
        print("RESP mutations: HOLDFAST_FUZZ_SEED=\(Self.seed)")
        var generator = SeededGenerator(seed: Self.seed)
        let end = ContinuousClock.now + .seconds(Self.seconds)
        var (cases, refused, values) = (0, 0, 0)
        let start = ContinuousClock.now
        while cases < Self.leastCases || ContinuousClock.now < end {
            let bytes = self.stream(&generator)
            let whole = Reading.whole(bytes, limits: Self.limits)
            let chunks = self.chunks(of: bytes.count, &generator)
            let isSame =
                Reading.byteByByte(bytes, limits: Self.limits) == whole
                && Reading.of(bytes, chunks: chunks, limits: Self.limits) == whole
                && Reading.inDirtyBuffer(bytes, limits: Self.limits) == whole
            #expect(isSame, "case \(cases): \(bytes) in \(chunks)")
            cases += 1
            refused += whole.error == nil ? 0 : 1
            values += whole.values.count
        }
        let rate = Double(cases) / ((ContinuousClock.now - start) / .seconds(1))
        print("RESP mutations: \(cases) cases, \(Int(rate))/s, \(refused) refused, \(values) values")
        #expect(cases >= Self.leastCases)
        // Both sides of the parser were seen.
        #expect(refused > cases / 20 && refused < cases)
        #expect(values > cases)
    }

    private func stream(_ generator: inout SeededGenerator) -> [UInt8] {
        if Int.random(in: 0..<8, using: &generator) == 0 {
            return (0..<Int.random(in: 0...60, using: &generator)).map { _ in
                Self.interesting.randomElement(using: &generator) ?? 0
            }
        }
        var bytes: [UInt8] = []
        for _ in 0..<Int.random(in: 1...6, using: &generator) {
            bytes += RESPParserTests.values.randomElement(using: &generator).map { Array($0.0.utf8) } ?? []
        }
        for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
            let index = Int.random(in: 0..<bytes.count, using: &generator)
            let byte = Self.interesting.randomElement(using: &generator) ?? 0
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: bytes[index] = byte
            case 2: bytes.insert(byte, at: index)
            case 3: bytes.remove(at: index)
            case 4: bytes.removeLast(bytes.count - index)
            default:
                let end = min(bytes.count, index + Int.random(in: 1...12, using: &generator))
                bytes.insert(contentsOf: bytes[index..<end], at: Int.random(in: 0...bytes.count, using: &generator))
            }
        }
        return bytes
    }

    private func chunks(of count: Int, _ generator: inout SeededGenerator) -> [Int] {
        var lengths: [Int] = []
        var rest = count
        while rest > 0 {
            let length = Int.random(
                in: 1...max(1, min(Bool.random(using: &generator) ? 3 : rest, rest)), using: &generator)
            lengths.append(length)
            rest -= length
        }
        return lengths
    }
}
