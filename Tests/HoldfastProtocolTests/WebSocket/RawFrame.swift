import NIOCore

@testable import HoldfastProtocol

/// Writes frames bit by bit, also wrong ones, without the code under test.
struct RawFrame {
    enum Length { case shortest, sixteen, sixtyFour }

    var opcode: UInt8
    var payload: [UInt8] = []
    var isFinal = true
    var reserved: UInt8 = 0
    var mask: [UInt8]? = [0x37, 0xFA, 0x21, 0x3D]
    var length = Length.shortest
    /// Announces another length than the payload has.
    var announced: UInt64?

    var bytes: [UInt8] {
        var bytes: [UInt8] = [(self.isFinal ? 0x80 : 0) | self.reserved << 4 | self.opcode]
        let count = self.announced ?? UInt64(self.payload.count)
        let maskBit: UInt8 = self.mask == nil ? 0 : 0x80
        switch self.length {
        case .shortest where count <= 125: bytes.append(maskBit | UInt8(count))
        case .shortest where count <= 0xFFFF, .sixteen:
            bytes += [maskBit | 126, UInt8(truncatingIfNeeded: count >> 8), UInt8(truncatingIfNeeded: count)]
        case .shortest, .sixtyFour:
            bytes.append(maskBit | 127)
            for shift in stride(from: 56, through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: count >> UInt64(shift)))
            }
        }
        guard let mask = self.mask else { return bytes + self.payload }
        return bytes + mask + self.payload.enumerated().map { $1 ^ mask[$0 % 4] }
    }

    static func text(_ text: String, isFinal: Bool = true) -> RawFrame {
        RawFrame(opcode: 1, payload: Array(text.utf8), isFinal: isFinal)
    }

    static func binary(_ count: Int, isFinal: Bool = true) -> RawFrame {
        RawFrame(opcode: 2, payload: Array(repeating: 0x62, count: count), isFinal: isFinal)
    }

    static func more(_ text: String, isFinal: Bool) -> RawFrame {
        RawFrame(opcode: 0, payload: Array(text.utf8), isFinal: isFinal)
    }

    static func close(_ code: UInt16, _ reason: [UInt8] = []) -> RawFrame {
        RawFrame(opcode: 8, payload: [UInt8(code >> 8), UInt8(code & 0xFF)] + reason)
    }
}

extension [RawFrame] {
    var bytes: [UInt8] { self.flatMap(\.bytes) }
}
