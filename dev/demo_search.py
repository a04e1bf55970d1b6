"""Searches what `make demo` migrated: the five rows nearest to one of them."""

import sys

from pymilvus import MilvusClient

client = MilvusClient(sys.argv[1])
client.load_collection("articles")
row = client.query("articles", filter="id in [10042]", output_fields=["embedding"])[0]
print("The articles nearest to article 10042:")
for hit in client.search("articles", data=[row["embedding"]], limit=5)[0]:
    print(f"  id {hit['id']}, distance {hit['distance']:.3f}")
client.close()
