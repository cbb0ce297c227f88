import HoldfastClient
import Testing

@Suite("Address of a gateway")
struct GatewayURLTests {
    @Test(arguments: [
        ("http://127.0.0.1:8080", false, "127.0.0.1", 8080, "/socket"),
        ("http://127.0.0.1:8080/", false, "127.0.0.1", 8080, "/socket"),
        ("ws://example.com", false, "example.com", 80, "/socket"),
        ("wss://example.com", true, "example.com", 443, "/socket"),
        ("HTTPS://example.com:444/live/socket", true, "example.com", 444, "/live/socket"),
        ("ws://example.com/live?a=b/c:d", false, "example.com", 80, "/live?a=b/c:d"),
        ("ws://example.com?a=b", false, "example.com", 80, "/socket?a=b"),
        ("ws://example.com:1/x", false, "example.com", 1, "/x"),
        ("ws://example.com:65535/x", false, "example.com", 65535, "/x"),
        ("wss://[::1]:9000", true, "::1", 9000, "/socket"),
        ("ws://[fe80::1]", false, "fe80::1", 80, "/socket"),
    ])
    func good(_ text: String, isSecure: Bool, host: String, port: Int, target: String) throws {
        let url = try GatewayURL(text)
        #expect(url.isSecure == isSecure)
        #expect(url.host == host)
        #expect(url.port == port)
        #expect(url.target == target)
        #expect(try GatewayURL(url.description) == url)
    }

    @Test(arguments: [
        "", "127.0.0.1:8080", "localhost", "/socket", "ftp://x", "ws:/x", "ws://", "ws:///socket", "ws://:80",
        "ws://x:",
        "ws://x:0", "ws://x:65536", "ws://x:port", "ws://x:-1", "ws://x/#fragment", "ws://x#", "ws://user:password@x",
        "ws://[::1", "ws://[]", "ws://[::1]x", "ws://x/a b", "ws://x/\r\nHost: y", "ws://bücher.example",
    ])
    func bad(_ text: String) {
        #expect(throws: GatewayURL.Invalid.self) { try GatewayURL(text) }
    }

    @Test func theErrorSaysWhatIsWrongAndWhatIsRight() {
        #expect {
            try GatewayURL("ftp://x")
        } throws: { error in
            "\(error)".contains("ftp is none of http, https, ws and wss")
                && "\(error)".contains("http://127.0.0.1:8080")
        }
    }
}
