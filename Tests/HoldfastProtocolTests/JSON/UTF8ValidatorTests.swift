import Testing

@testable import HoldfastProtocol

@Suite struct UTF8ValidatorTests {
    private func whole(_ bytes: [UInt8]) -> Bool {
        var validator = UTF8Validator()
        return bytes.withUnsafeBytes { validator.consume($0) } && validator.isAtBoundary
    }

    private func byteByByte(_ bytes: [UInt8]) -> Bool {
        var validator = UTF8Validator()
        return bytes.allSatisfy { validator.consume($0) } && validator.isAtBoundary
    }

    private func inTwoPieces(_ bytes: [UInt8], at cut: Int) -> Bool {
        var validator = UTF8Validator()
        return bytes[..<cut].withUnsafeBytes { validator.consume($0) }
            && bytes[cut...].withUnsafeBytes { validator.consume($0) }
            && validator.isAtBoundary
    }

    /// Against the standard library, with ASCII around so that the eight-bytes-at-a-time path is entered and left.
    private func check(_ bytes: [UInt8]) -> Bool {
        let expected = String(validating: bytes, as: UTF8.self) != nil
        let surrounded = Array("12345678abc".utf8) + bytes + Array("xyz12345678".utf8)
        return self.whole(bytes) == expected && self.byteByByte(bytes) == expected && self.whole(surrounded) == expected
    }

    @Test func everyScalar() {
        var checked = 0
        for value in (0...0x10FFFF as ClosedRange<UInt32>)
        where value < 0x3000 || value > 0xD000 && value < 0x1_0100 || value % 61 == 0 || value > 0x10_FF00 {
            guard let scalar = Unicode.Scalar(value) else { continue }
            checked += 1
            if !self.byteByByte(Array(String(scalar).utf8)) { Issue.record("refused U+\(String(value, radix: 16))") }
        }
        #expect(checked > 30_000)
    }

    @Test func everyOneAndTwoBytes() {
        for first in UInt8.min...UInt8.max {
            if !self.check([first]) { Issue.record("\(first)") }
            for second in UInt8.min...UInt8.max where !self.check([first, second]) {
                Issue.record("\(first) \(second)")
            }
        }
    }

    @Test func everyInterestingSequenceOfThreeAndFour() {
        let leads: [UInt8] = [
            0x7F, 0x80, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
        ]
        let next: [UInt8] = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xED, 0xF4, 0xFF]
        var checked = 0
        for lead in leads {
            for second in next {
                for third in next {
                    checked += 1
                    if !self.check([lead, second, third]) { Issue.record("\([lead, second, third])") }
                    for fourth in next where !self.check([lead, second, third, fourth]) {
                        Issue.record("\([lead, second, third, fourth])")
                    }
                }
            }
        }
        #expect(checked == 17 * 12 * 12)
    }

    @Test func anyCut() {
        let text = Array("aé€😀\u{7FF}\u{800}\u{FFFF}\u{10FFFF}12345678901234567".utf8)
        for cut in 0...text.count { #expect(self.inTwoPieces(text, at: cut)) }
        let broken = Array("12345678".utf8) + [0xE2, 0x82] + Array("12345678".utf8)
        for cut in 0...broken.count { #expect(!self.inTwoPieces(broken, at: cut)) }
    }

    @Test(arguments: [[0xC3], [0xE2, 0x82], [0xF0, 0x9F, 0x98], [0x31, 0xF4]] as [[UInt8]])
    func anUnfinishedCodePointIsNoBoundary(_ bytes: [UInt8]) {
        var validator = UTF8Validator()
        #expect(bytes.withUnsafeBytes { validator.consume($0) } == true)
        #expect(!validator.isAtBoundary)
    }

    /// Refused at the first byte that makes it certain, not at the end.
    @Test(
        arguments: [[0xC0], [0xC1], [0xE0, 0x9F], [0xED, 0xA0], [0xF0, 0x8F], [0xF4, 0x90], [0xF5], [0x80]] as [[UInt8]]
    )
    func failsFast(_ bytes: [UInt8]) {
        var validator = UTF8Validator()
        for byte in bytes.dropLast() { #expect(validator.consume(byte) == true) }
        #expect(validator.consume(bytes[bytes.count - 1]) == false)
    }
}
