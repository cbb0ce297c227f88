import Testing

@testable import HoldfastServer

@Suite struct NearestTests {
    private static let words = ["ws_host", "ws_port", "heartbeat", "log", "limits"]

    @Test(arguments: [
        ("ws_prt", "ws_port" as String?), ("ws_hots", "ws_host"), ("heart_beat", "heartbeat"), ("Log", "log"),
        ("limit", "limits"), ("lgo", "log"),
        ("ws_port", "ws_port"), ("something_else", nil), ("zzzzzz", nil),
    ])
    func nearest(_ word: String, _ expected: String?) {
        #expect(Nearest.of(word, in: Self.words) == expected)
    }

    @Test func nothingToChooseFrom() {
        #expect(Nearest.of("a", in: []) == nil)
    }
}
