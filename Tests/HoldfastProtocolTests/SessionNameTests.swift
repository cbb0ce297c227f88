import TestSupport
import Testing

@testable import HoldfastProtocol

@Suite struct SessionNameTests {
    private static let text = "00000000000000ff.0123456789abcdeffedcba9876543210"

    @Test func readsWhatItWrites() throws {
        let name = try #require(SessionName(Self.text))
        #expect(name.handle == SessionName.Handle(255))
        #expect(name.handle.description == "00000000000000ff")
        #expect(name.revealed == Self.text)
        #expect(SessionName.Handle("00000000000000ff") == name.handle)
    }

    @Test func roundTripOfRandomNames() {
        var generator = SeededGenerator(seed: 3)
        var seen: Set<String> = []
        for _ in 0..<1000 {
            let name = SessionName(using: &generator)
            #expect(SessionName(name.revealed) == name)
            #expect(name.revealed.utf8.count == 49)
            seen.insert(name.revealed)
        }
        #expect(seen.count == 1000)
    }

    @Test(arguments: [
        "", ".", "00000000000000ff", "00000000000000ff.", ".0123456789abcdeffedcba9876543210",
        "00000000000000FF.0123456789abcdeffedcba9876543210", "00000000000000ff.0123456789ABCDEFfedcba9876543210",
        "0000000000000ff.0123456789abcdeffedcba9876543210", "000000000000000ff.0123456789abcdeffedcba9876543210",
        "00000000000000ff.0123456789abcdeffedcba987654321", "00000000000000ff.0123456789abcdeffedcba98765432100",
        "00000000000000ff.0123456789abcdeffedcba9876543210.", "00000000000000ff..0123456789abcdeffedcba987654321",
        "+000000000000000.0123456789abcdeffedcba9876543210", "-000000000000001.0123456789abcdeffedcba9876543210",
        "0x0000000000000f.0123456789abcdeffedcba9876543210", "00000000000000fg.0123456789abcdeffedcba9876543210",
        " 0000000000000ff.0123456789abcdeffedcba9876543210", "00000000000000éa.0123456789abcdeffedcba9876543210",
        "00000000000000ff.0123456789abcdeé+dcba9876543210", "00000000000000ff 0123456789abcdeffedcba9876543210",
    ])
    func refuses(_ text: String) {
        #expect(SessionName(text) == nil)
    }

    /// Each single bit counts, in the handle and in both halves of the secret.
    @Test func equality() {
        let secret = SessionName.Secret(high: 5, low: 9)
        #expect(secret.matches(SessionName.Secret(high: 5, low: 9)))
        for bit in 0..<64 as Range<UInt64> {
            #expect(!secret.matches(SessionName.Secret(high: 5 ^ (1 << bit), low: 9)))
            #expect(!secret.matches(SessionName.Secret(high: 5, low: 9 ^ (1 << bit))))
            // The same difference in both halves must not cancel out.
            #expect(!secret.matches(SessionName.Secret(high: 5 ^ (1 << bit), low: 9 ^ (1 << bit))))
            let name = SessionName(handle: .init(1), secret: secret)
            #expect(name != SessionName(handle: .init(1 ^ (1 << bit)), secret: secret))
        }
    }
}
