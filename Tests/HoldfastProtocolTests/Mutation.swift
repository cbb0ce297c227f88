import NIOCore
import TestSupport

@testable import HoldfastProtocol

/// Changes bytes as a broken peer, a broken proxy or an attacker would.
enum Mutation {
    private static let interesting: [UInt8] = [
        0x00, 0x01, 0x22, 0x2C, 0x30, 0x3A, 0x5B, 0x5C, 0x5D, 0x7B, 0x7D, 0x7E, 0x7F, 0x80, 0x81, 0x88, 0xBF, 0xC3,
        0xED, 0xF4, 0xFE, 0xFF,
    ]

    static func apply(_ bytes: [UInt8], using generator: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            guard !bytes.isEmpty else { return bytes }
            let index = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0..<7, using: &generator) {
            case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: bytes[index] = Self.interesting[Int.random(in: 0..<Self.interesting.count, using: &generator)]
            case 2: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: index)
            case 3: bytes.remove(at: index)
            case 4: bytes.removeLast(bytes.count - index)
            case 5:
                let end = min(bytes.count, index + Int.random(in: 1...8, using: &generator))
                bytes.insert(contentsOf: bytes[index..<end], at: Int.random(in: 0...bytes.count, using: &generator))
            default:
                bytes.insert(Self.interesting[Int.random(in: 0..<Self.interesting.count, using: &generator)], at: index)
            }
        }
        return bytes
    }

    /// Lengths of chunks: often single bytes, sometimes long ones.
    static func chunks(of count: Int, using generator: inout SeededGenerator) -> [Int] {
        var lengths: [Int] = []
        var rest = count
        while rest > 0 {
            let longest = Bool.random(using: &generator) ? 3 : rest
            lengths.append(Int.random(in: 1...max(1, min(longest, rest)), using: &generator))
            rest -= lengths[lengths.count - 1]
        }
        return lengths
    }
}
